// Input: a pickle program, run as data.pkl of a file with one storage "0" of 16 bytes.
#include "fuzz/fuzz_entry.h"
#include "io/readers/file_bytes.h"
#include "io/readers/torch_file_reader.h"

FUZZ_ENTRY(pickle) {
  const ospnext::fuzz::MemoryFile file(ospnext::torch_file_bytes(std::string(input)));
  const ospnext::MappedFile mapped(file.path());
  ospnext::fuzz::touch(ospnext::read_torch_file(mapped));
}
