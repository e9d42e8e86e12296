// Input: a zip archive. All its entries are read.
#include "fuzz/fuzz_entry.h"
#include "io/readers/zip_reader.h"

FUZZ_ENTRY(zip) {
  constexpr uint64_t kMaxBytes = 1 << 16;
  const ospnext::fuzz::MemoryFile file(input);
  const ospnext::MappedFile mapped(file.path());
  for (const auto& [name, entry] : ospnext::read_zip(mapped)) {
    const auto bytes = ospnext::read_zip_entry(entry, kMaxBytes, "input");
    ospnext::fuzz::require(bytes.size() == entry.size && bytes.size() <= kMaxBytes);
  }
}
