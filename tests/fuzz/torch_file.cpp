// Input: a whole file of torch.save, opened by its content as any tensor file.
#include "fuzz/fuzz_entry.h"

FUZZ_ENTRY(torch_file) {
  const ospnext::fuzz::MemoryFile file(input);
  ospnext::fuzz::touch(ospnext::open_checkpoint(file.path()).tensors());
}
