// LoRA files: small sets of changes to a transformer's parameters (docs/lora.md).
#pragma once

#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "io/readers/lora_keys.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// A LoRA that was asked for.
struct LoraChoice {
  std::filesystem::path path;  // a tensor file, or a directory of PEFT or diffusers
  double strength = 1;
};

// From "FILE" or "FILE:STRENGTH"; what stands behind the last colon is the strength. Throws InputError.
LoraChoice parse_lora_choice(const std::string& text);

// One change of one parameter W: W += scale · values · down, or W += values without `down`.
struct LoraChange {
  std::string target;                // parameter in the names of our modules
  std::string name;                  // of `values` in the file, for messages
  TensorRecord values;               // up [out, r, 1...], or the difference in W's shape
  std::optional<TensorRecord> down;  // [r, in...]
  double scale = 1;                  // alpha / r; 1 where no alpha is given
};

struct LoraFile {
  Checkpoint checkpoint;  // keeps the records below valid
  std::vector<LoraChange> changes;
  std::set<LoraFamily> families;
  std::set<int64_t> ranks;
  std::vector<std::string> remarks;  // what the user should know, one line each

  // Throws InputError, listing the file's names, when changes fit no parameter of a model with these
  // shapes by parameter name, or fit one of another shape.
  void check_fits(const TensorShapes& shapes) const;
};

// The weights of a directory that PEFT or diffusers saved a LoRA to; nothing for other directories.
std::optional<std::filesystem::path> lora_weights_in(const std::filesystem::path& directory);

// Reads a LoRA from a tensor file, or from the directory that PEFT or diffusers saves. The scale
// comes from alpha tensors, else as lora_scales.h says. Throws InputError for names of no known
// family (it lists them), an empty LoRA, a matrix without its partner, ranks that differ or are 0,
// an alpha that is not finite, a configuration that asks for another sum, and DoRA, LoKr and other
// methods.
LoraFile open_lora(const std::filesystem::path& file_or_directory);

}  // namespace ospnext
