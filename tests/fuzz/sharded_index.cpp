// Input: a line with an index, a line with the header of its shard "a", and the data of that shard.
// The first line is also used as the name of a shard.
#include "fuzz/fuzz_entry.h"
#include "io/readers/checkpoint_folder.h"
#include "io/readers/file_bytes.h"

FUZZ_ENTRY(sharded_index) {
  const std::string index = ospnext::fuzz::take_line(input);
  const std::string header = ospnext::fuzz::take_line(input);
  if (const auto shard = ospnext::parse_shard_name(index)) {
    ospnext::fuzz::require(shard->name_of(shard->number) == index);
  }
  const std::string shard = ospnext::safetensors_bytes(header, std::string(input));
  const ospnext::fuzz::Folder folder({{"model.safetensors.index.json", index}, {"a", shard}});
  auto checkpoint = ospnext::open_checkpoint(folder / ".");
  ospnext::fuzz::touch(checkpoint.tensors());
  for (const std::string& name : checkpoint.unlisted()) {
    ospnext::fuzz::require(checkpoint.tensors().contains(name));
  }
}
