// Input: a line with an index, a line with the header of its shard "a", the data of that shard.
#include "fuzz/fuzz_entry.h"
#include "io/readers/file_bytes.h"

FUZZ_ENTRY(sharded_index) {
  const std::string index = ospnext::fuzz::take_line(input);
  const std::string header = ospnext::fuzz::take_line(input);
  const std::string shard = ospnext::safetensors_bytes(header, std::string(input));
  const ospnext::fuzz::Folder folder({{"model.safetensors.index.json", index}, {"a", shard}});
  ospnext::fuzz::touch(ospnext::open_checkpoint(folder / ".").tensors());
}
