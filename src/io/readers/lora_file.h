// Reads LoRA files: small sets of changes to a transformer's parameters (docs/lora.md).
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/readers/lora_keys.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// A LoRA that the user chose.
struct LoraChoice {
  std::filesystem::path path;  // a tensor file, or a directory saved by PEFT or diffusers
  double strength = 1;
};

// Parses "FILE" or "FILE:STRENGTH". The text after the last colon is the strength, from -100 to
// 100. Throws InputError.
LoraChoice parse_lora_choice(const std::string& text);

// One change of one parameter W: W += scale · values · down, or W += scale · values if there is no
// `down`.
struct LoraChange {
  std::string target;                // the parameter's name in our modules
  std::string name;                  // of `values` in the file, for messages
  TensorRecord values;               // up [out, r, 1...], or the difference in W's shape
  std::optional<TensorRecord> down;  // [r, in...]
  double scale = 1;                  // alpha / r; 1 without alpha
};

struct LoraFile {
  Checkpoint checkpoint;  // keeps the records below valid
  std::vector<LoraChange> changes;
  std::set<LoraFamily> families;
  std::set<int64_t> ranks;
  double lowest_noise_level = 0;     // the LoRA acts on latents with this much noise or more
  std::vector<std::string> remarks;  // for the user, one line each

  // Checks the changes against a model's shapes by parameter name. Throws InputError that lists the
  // tensors whose parameter does not exist or has another shape.
  void check_fits(const TensorShapes& shapes) const;
};

// The weights file in a directory where PEFT or diffusers saved a LoRA; nothing for other
// directories.
std::optional<std::filesystem::path> lora_weights_in(const std::filesystem::path& directory);

// Reads a LoRA from a tensor file, or from a directory saved by PEFT or diffusers. The scale comes
// from the layer's alpha tensor, otherwise from LoraScales (lora_scales.h). Throws InputError for
// names of no known family (it lists them), an empty LoRA, a matrix without its partner, ranks that
// differ or are 0, an alpha that is not finite, a configuration that needs another sum, DoRA, LoKr
// and other methods, and a LoRA for some noise levels that changes what does not depend on them.
LoraFile open_lora(const std::filesystem::path& file_or_directory);

}  // namespace ospnext
