// Functions that rewrite dotted tensor names, shared by the key layouts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// The checkpoint contains no model of the expected kind.
class OtherModelError : public InputError {
 public:
  using InputError::InputError;
};

struct PrefixRule {
  std::string_view from;
  std::string_view to;
};

// Removes wrappers of single layers anywhere in `name`: those of torch.compile, FSDP, activation
// checkpointing, DDP and PEFT.
std::string strip_inner_wrappers(const std::string& name);

// Removes inner wrappers and the usual wrappers at the start of one name. For names of a LoRA,
// where find_wrapper() is not possible.
std::string strip_wrappers(const std::string& name);

using KeyFunction = std::string (*)(std::string_view bare);

// How a checkpoint of one kind of model is recognised.
struct ModelSigns {
  const char* title;                        // "a Wan transformer"
  std::span<const std::string_view> roots;  // each of its names begins with one of these
  // Translated names: one of them identifies the model. A name of block 0 stands for every block.
  std::span<const std::string_view> signs;
  KeyFunction translate;  // a name without wrappers -> its name in our modules
};

// The wrapper: the common prefix of all names of the model's tensors, such as
// "model.diffusion_model."; mostly empty. Runs in time linear in the number of names. Throws
// OtherModelError when the file contains no such model, InputError when it contains several.
std::string find_wrapper(const Checkpoint& checkpoint, const ModelSigns& model);

// `name` without inner wrappers and without `wrapper`; nothing if it does not begin with `wrapper`.
std::optional<std::string> unwrapped(const std::string& name, const std::string& wrapper);

// Applies the first rule with a `from` that `name` begins with; nothing if no rule fits.
std::optional<std::string> replace_prefix(std::string_view name, std::span<const PrefixRule> rules);
// The inverse: the first rule with a `to` that `name` begins with.
std::optional<std::string> restore_prefix(std::string_view name, std::span<const PrefixRule> rules);

// The parts of a name "<prefix><number>.<rest>".
struct NumberedKey {
  int64_t number;
  std::string_view rest;
};
std::optional<NumberedKey> split_number(std::string_view name, std::string_view prefix);

// The number of blocks "<prefix>0.", "<prefix>1.", ...: the largest block number plus one. Throws
// InputError, beginning with `origin`, that names the blocks missing below the largest number.
int64_t count_blocks(const TensorShapes& shapes, const std::string& prefix,
                     const std::string& origin);

}  // namespace ospnext
