// Input: a .safetensors file.
#include "fuzz/fuzz_entry.h"
#include "io/readers/safetensors_reader.h"

FUZZ_ENTRY(safetensors) {
  const ospnext::fuzz::MemoryFile file(input);
  const ospnext::MappedFile mapped(file.path());
  ospnext::fuzz::touch(ospnext::read_safetensors(mapped).tensors);
}
