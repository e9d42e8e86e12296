// Prefixes, block numbers and error messages that all key layouts share.
#include "io/readers/key_rewriting.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

namespace ospnext {
namespace {

constexpr std::array<std::string_view, 9> kUsualWrappers{
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

// These may occur anywhere in a name. No layer has such a name.
// Source: pytorch torch/distributed/fsdp/_common_utils.py and
// algorithms/_checkpoint/checkpoint_wrapper.py; lightning's strategies;
// peft tuners/tuners_utils.py.
constexpr std::array<std::string_view, 6> kInnerWrappers{
    "_orig_mod.",
    "_checkpoint_wrapped_module.",
    "_fsdp_wrapped_module.",
    "_forward_module.",
    "module.",
    "base_layer.",
};

// The text before the first root in `name` that begins the name or follows a dot; nothing if there
// is none.
std::optional<std::string_view> before_root(std::string_view name,
                                            std::span<const std::string_view> roots) {
  for (size_t begin = 0; begin < name.size();) {
    for (const std::string_view root : roots) {
      if (name.substr(begin).starts_with(root)) {
        return name.substr(0, begin);
      }
    }
    const size_t dot = name.find('.', begin);
    begin = dot == name.npos ? name.size() : dot + 1;
  }
  return std::nullopt;
}

[[noreturn]] void refuse_other_model(const Checkpoint& checkpoint, const std::string& expected) {
  std::string found;
  int count = 0;
  for (const auto& entry : checkpoint.tensors()) {
    if (++count > 3) {
      break;
    }
    found += (found.empty() ? "" : ", ") + quoted(entry.first);
  }
  throw OtherModelError(checkpoint.path() + ": expected " + expected + ", found " +
                        (found.empty() ? "no tensors" : "tensors such as " + found));
}

}  // namespace

std::string strip_inner_wrappers(const std::string& name) {
  std::string text;
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
  return text;
}

std::string strip_wrappers(const std::string& name) {
  const std::string text = strip_inner_wrappers(name);
  std::string_view rest = text;
  for (size_t i = 0; i < kUsualWrappers.size();) {
    if (rest.starts_with(kUsualWrappers[i])) {
      rest.remove_prefix(kUsualWrappers[i].size());
      i = 0;
    } else {
      ++i;
    }
  }
  return std::string(rest);
}

std::string find_wrapper(const Checkpoint& checkpoint, const ModelSigns& model) {
  std::set<std::string> wrappers;
  for (const auto& entry : checkpoint.tensors()) {
    const std::string name = strip_inner_wrappers(entry.first);
    const auto wrapper = before_root(name, model.roots);
    if (!wrapper) {
      continue;
    }
    std::string key = model.translate(std::string_view(name).substr(wrapper->size()));
    if (const auto block = split_number(key, "blocks.")) {
      key = "blocks.0." + std::string(block->rest);  // the first block may be missing
    }
    if (std::find(model.signs.begin(), model.signs.end(), key) != model.signs.end()) {
      wrappers.emplace(*wrapper);
    }
  }
  if (wrappers.empty()) {
    refuse_other_model(checkpoint, model.title);
  }
  if (wrappers.size() > 1) {
    std::vector<std::string> found;
    for (const std::string& wrapper : wrappers) {
      found.push_back(wrapper.empty() ? "nothing" : quoted(wrapper));
    }
    throw InputError(checkpoint.path() + ": expected " + model.title + ", found " +
                     std::to_string(found.size()) + ", with names behind " + list_text(found) +
                     ": keep one of them in a file of its own");
  }
  return *wrappers.begin();
}

std::optional<std::string> unwrapped(const std::string& name, const std::string& wrapper) {
  std::string text = strip_inner_wrappers(name);
  if (!text.starts_with(wrapper)) {
    return std::nullopt;
  }
  return text.substr(wrapper.size());
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

int64_t count_blocks(const TensorShapes& shapes, const std::string& prefix,
                     const std::string& origin) {
  std::set<int64_t> numbers;
  for (auto entry = shapes.lower_bound(prefix);
       entry != shapes.end() && entry->first.starts_with(prefix); ++entry) {
    if (const auto block = split_number(entry->first, prefix)) {
      numbers.insert(block->number);
    }
  }
  const int64_t count = numbers.empty() ? 0 : *numbers.rbegin() + 1;
  std::vector<std::string> missing;
  for (int64_t i = 0; i < count; ++i) {
    if (!numbers.contains(i)) {
      missing.push_back(prefix + std::to_string(i));
    }
  }
  if (!missing.empty()) {
    throw InputError(origin + ": " + std::to_string(missing.size()) + " of " +
                     std::to_string(count) + " blocks are missing: " + list_text(missing));
  }
  return count;
}

}  // namespace ospnext
