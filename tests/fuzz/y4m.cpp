// Input: a YUV4MPEG2 file.
#include "fuzz/fuzz_entry.h"
#include "io/readers/y4m_file.h"

FUZZ_ENTRY(y4m) {
  const ospnext::fuzz::MemoryFile file(input);
  ospnext::Y4mFile reader(file.path());
  volatile unsigned char sink = 0;
  while (const auto planes = reader.next()) {
    ospnext::fuzz::require(planes->size() == reader.format().frame_bytes());
    sink = sink + static_cast<unsigned char>(planes->front());
    sink = sink + static_cast<unsigned char>(planes->back());
  }
}
