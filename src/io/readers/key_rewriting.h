// Small steps of rewriting dotted tensor names, shared by the key layouts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/readers/tensor_file.h"

namespace ospnext {

struct PrefixRule {
  std::string_view from;
  std::string_view to;
};

// `name` without the wrappers that training frameworks and single-file packages put around it.
std::string strip_wrappers(const std::string& name);

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

std::vector<std::string> tensor_names(const Checkpoint& checkpoint);

// Throws the InputError of a checkpoint that is not `expected` ("a Wan transformer").
[[noreturn]] void refuse_other_model(const Checkpoint& checkpoint, const std::string& expected);

}  // namespace ospnext
