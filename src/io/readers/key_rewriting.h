// Small steps of rewriting dotted tensor names, shared by the key layouts.
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

// Of a checkpoint that is no model of the kind that was asked for.
class OtherModelError : public InputError {
 public:
  using InputError::InputError;
};

struct PrefixRule {
  std::string_view from;
  std::string_view to;
};

// `name` without the wrappers that stand inside names, around single layers: those of torch.compile,
// FSDP, activation checkpointing, DDP and PEFT.
std::string strip_inner_wrappers(const std::string& name);

// A name on its own, as a LoRA has them, without inner wrappers and without those that are usual in
// front of it.
std::string strip_wrappers(const std::string& name);

using KeyFunction = std::string (*)(std::string_view bare);

// How a checkpoint of one kind of model is recognised.
struct ModelSigns {
  const char* title;                        // "a Wan transformer"
  std::span<const std::string_view> roots;  // what the names of all its tensors begin with
  std::span<const std::string_view> signs;  // translated names: a file with one holds such a model
  KeyFunction translate;                    // a name without wrappers -> its name in our modules
};

// What stands in front of the names of the model's tensors, everywhere alike: "model.diffusion_model.",
// mostly nothing. Takes time linear in the names. Throws OtherModelError when the file holds no such
// model, InputError when it holds several.
std::string find_wrapper(const Checkpoint& checkpoint, const ModelSigns& model);

// `name` without inner wrappers and `wrapper`; nothing when the wrapper does not begin it.
std::optional<std::string> unwrapped(const std::string& name, const std::string& wrapper);

// `name` with the first rule applied whose `from` begins it; nothing when none fits.
std::optional<std::string> replace_prefix(std::string_view name, std::span<const PrefixRule> rules);
// The way back: the first rule whose `to` begins the name.
std::optional<std::string> restore_prefix(std::string_view name, std::span<const PrefixRule> rules);

// A name "<prefix><number>.<rest>" taken apart.
struct NumberedKey {
  int64_t number;
  std::string_view rest;
};
std::optional<NumberedKey> split_number(std::string_view name, std::string_view prefix);

// How many blocks "<prefix>0.", "<prefix>1.", ... there are: the largest number and one. Throws InputError,
// beginning with `origin`, that names those that are missing below the largest.
int64_t count_blocks(const TensorShapes& shapes, const std::string& prefix,
                     const std::string& origin);

}  // namespace ospnext
