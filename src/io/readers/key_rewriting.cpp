// Prefixes, numbers and the refusals that all key layouts share.
#include "io/readers/key_rewriting.h"

#include <array>
#include <charconv>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr std::array<std::string_view, 9> kWrappers{
    "module.",
    "state_dict.",
    "model.diffusion_model.",
    "diffusion_model.",
    "first_stage_model.",
    "model.",
    "net.",
    "text_encoder.",
    "text_encoders.umt5xxl.transformer.",
};
// torch.compile and activation checkpointing wrap single layers, so these occur anywhere
constexpr std::array<std::string_view, 2> kInnerWrappers{"_orig_mod.",
                                                         "_checkpoint_wrapped_module."};

}  // namespace

std::string strip_wrappers(const std::string& name) {
  std::string text;  // `name` without inner wrappers, each of which begins a part of the name
  std::string_view rest = name;
  while (!rest.empty()) {
    size_t wrapped = 0;
    for (const std::string_view wrapper : kInnerWrappers) {
      if ((text.empty() || text.back() == '.') && rest.starts_with(wrapper)) {
        wrapped = wrapper.size();
      }
    }
    if (wrapped == 0) {
      text += rest.front();
      wrapped = 1;
    }
    rest.remove_prefix(wrapped);
  }
  rest = text;
  for (size_t i = 0; i < kWrappers.size();) {
    if (rest.starts_with(kWrappers[i])) {
      rest.remove_prefix(kWrappers[i].size());
      i = 0;
    } else {
      ++i;
    }
  }
  return std::string(rest);
}

std::optional<std::string> replace_prefix(std::string_view name,
                                          std::span<const PrefixRule> rules) {
  for (const auto& [from, to] : rules) {
    if (name.starts_with(from)) {
      return std::string(to).append(name.substr(from.size()));
    }
  }
  return std::nullopt;
}

std::optional<std::string> restore_prefix(std::string_view name,
                                          std::span<const PrefixRule> rules) {
  for (const auto& [from, to] : rules) {
    if (name.starts_with(to)) {
      return std::string(from).append(name.substr(to.size()));
    }
  }
  return std::nullopt;
}

std::optional<NumberedKey> split_number(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) {
    return std::nullopt;
  }
  constexpr int64_t kMaxNumber = 9999;  // no network has so many blocks
  name.remove_prefix(prefix.size());
  int64_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const auto length = static_cast<size_t>(end - name.data());
  if (error != std::errc() || number < 0 || number > kMaxNumber || length == name.size() ||
      name[length] != '.') {
    return std::nullopt;
  }
  return NumberedKey{number, name.substr(length + 1)};
}

std::vector<std::string> tensor_names(const Checkpoint& checkpoint) {
  std::vector<std::string> names;
  for (const auto& entry : checkpoint.tensors()) {
    names.push_back(entry.first);
  }
  return names;
}

void refuse_other_model(const Checkpoint& checkpoint, const std::string& expected) {
  std::string found;
  int count = 0;
  for (const auto& entry : checkpoint.tensors()) {
    if (++count > 3) {
      break;
    }
    found += (found.empty() ? "" : ", ") + quoted(entry.first);
  }
  throw InputError(checkpoint.path() + ": expected " + expected + ", found " +
                   (found.empty() ? "no tensors" : "tensors such as " + found));
}

}  // namespace ospnext
