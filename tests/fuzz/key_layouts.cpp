// Input: tensor names, one per line. They are recognised and translated back and forth as every
// kind of model.
#include "io/readers/key_layouts.h"

#include "fuzz/fuzz_entry.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/lora_keys.h"

namespace {

void translate(const ospnext::Checkpoint& checkpoint,
               ospnext::KeyMap (*recognise)(const ospnext::Checkpoint&)) {
  try {
    const auto shapes = ospnext::renamed_shapes(checkpoint, recognise(checkpoint));
    for (const char* prefix : {"blocks.", "encoder.downsamples."}) {
      ospnext::fuzz::require(ospnext::count_blocks(shapes, prefix, "input") <= 10'000);
    }
  } catch (const ospnext::InputError&) {  // another kind of model
  }
}

}  // namespace

FUZZ_ENTRY(key_layouts) {
  ospnext::TensorMap tensors;
  std::vector<std::string> names;
  while (!input.empty()) {
    const std::string name = ospnext::fuzz::take_line(input);
    tensors[name] = {};
    names.push_back(name);
    ospnext::diffusers_transformer_key(ospnext::canonical_transformer_key(name));
    ospnext::hugging_face_umt5_key(ospnext::canonical_umt5_key(name));
    if (const auto key = ospnext::parse_lora_key(name)) {
      ospnext::fuzz::require(!key->target().empty());
    }
  }
  const auto saved = ospnext::diffusers_vae_keys(names);
  const auto offsets = ospnext::up_block_offsets(names);
  for (const std::string& name : names) {
    saved(ospnext::canonical_vae_key(name, offsets));
  }
  const ospnext::Checkpoint checkpoint("input", {}, tensors, {});
  translate(checkpoint, ospnext::transformer_keys);
  translate(checkpoint, ospnext::umt5_keys);
  translate(checkpoint, ospnext::vae_keys);
}
