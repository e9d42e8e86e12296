#include "packages/inspect_model.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/fields.h"
#include "io/readers/hif8_codes.h"
#include "io/readers/key_rewriting.h"
#include "io/readers/lora_file.h"
#include "io/readers/scaled_fp8.h"
#include "io/readers/weight_companions.h"
#include "io/weight_stream.h"
#include "packages/all_in_one.h"
#include "packages/load_model.h"
#include "packages/part_layouts.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

using KeysOf = KeyMap (*)(const Checkpoint&);

// Whether `keys_of` accepts the checkpoint. Otherwise its error message is stored in `problem`: if
// `problem` is empty, or if the checkpoint contains the expected kind of model.
bool recognises(KeysOf keys_of, const Checkpoint& checkpoint, std::string& problem) {
  try {
    keys_of(checkpoint);
    return true;
  } catch (const OtherModelError& error) {
    problem = problem.empty() ? error.what() : problem;
  } catch (const InputError& error) {
    problem = error.what();
  }
  return false;
}

bool any_name_has(const Checkpoint& checkpoint, const std::string& part) {
  return std::any_of(checkpoint.tensors().begin(), checkpoint.tensors().end(),
                     [&](const auto& entry) { return entry.first.find(part) != part.npos; });
}

ordered_json numbers_of(const Checkpoint& checkpoint, const std::string& kind) {
  int64_t parameters = 0;
  uint64_t bytes = 0;
  std::map<std::string, int64_t> dtypes;
  for (const auto& [name, record] : checkpoint.tensors()) {
    bytes += record.bytes;
    ++dtypes[dtype_text(record)];
    const bool is_code = checkpoint.tensors().contains(hif8_scale_name(name));
    if (!is_weight_companion(name) && record.dtype != DType::kOther &&
        (record.dtype != DType::kU8 || is_code)) {
      parameters += record.element_count();
    }
  }
  ordered_json numbers = {
      {"path", checkpoint.path()}, {"kind", kind},   {"tensors", checkpoint.tensors().size()},
      {"parameters", parameters},  {"bytes", bytes}, {"dtypes", dtypes}};
  if (!checkpoint.unlisted().empty()) {
    numbers["unlisted"] = checkpoint.unlisted();
  }
  return numbers;
}

// Adds the missing and the unused tensors. `expected`: the shapes that the configuration requires.
void compare(ordered_json& description, const Checkpoint& checkpoint, KeysOf keys_of,
             const TensorShapes& expected) {
  const auto sources = weight_sources(checkpoint, keys_of(checkpoint));
  std::vector<std::string> missing;
  std::vector<std::string> unused;
  for (const auto& [name, shape] : expected) {
    if (!sources.contains(name)) {
      missing.push_back(name);
    }
  }
  for (const auto& [name, source] : sources) {
    if (!expected.contains(name)) {
      unused.push_back(source.file_name);
    }
  }
  description["missing"] = missing;
  description["unused"] = unused;
  if (const auto scales = fp8_scales(checkpoint); !scales.empty()) {
    description["scaled_fp8"] = scales.size();
  }
  if (const auto scales = hif8_scales(checkpoint); !scales.empty()) {
    description["hif8_weights"] = scales.size();
  }
  if (missing.empty()) {
    check_complete(sources, expected, checkpoint.path());
  }
}

// Adds the entries that need a configuration. An error becomes the entry "problem".
template <class ReadConfig>
void describe_part(ordered_json& description, const Checkpoint& checkpoint, const PartFiles& files,
                   KeysOf keys_of, ReadConfig&& read_config) {
  try {
    const auto config = read_config(files);
    description["config"] = fields_to_json(config);
    if (files.config) {
      description["config_file"] = files.config->string();
    }
    compare(description, checkpoint, keys_of, part_shapes(config));
  } catch (const InputError& error) {
    description["problem"] = error.what();
  }
}

ordered_json describe_transformer(const Checkpoint& checkpoint, const PartFiles& files) {
  ordered_json description = numbers_of(checkpoint, "transformer");
  description["names"] =
      any_name_has(checkpoint, "condition_embedder.") ? "diffusers" : "Wan, OSP-Next";
  describe_part(description, checkpoint, files, transformer_keys, read_transformer_config);
  return description;
}

ordered_json describe_text_encoder(const Checkpoint& checkpoint, const PartFiles& files) {
  ordered_json description = numbers_of(checkpoint, "text encoder");
  description["names"] = any_name_has(checkpoint, "DenseReluDense") ? "Hugging Face" : "Wan";
  description["tokenizer_inside"] = brings_tokenizer(files.weights);
  describe_part(description, checkpoint, files, umt5_keys, read_text_encoder_config);
  return description;
}

ordered_json describe_vae(const Checkpoint& checkpoint, const PartFiles& files) {
  ordered_json description = numbers_of(checkpoint, "VAE");
  description["names"] = any_name_has(checkpoint, "up_blocks.") ? "diffusers" : "Wan";
  describe_part(description, checkpoint, files, vae_keys, read_vae_config);
  return description;
}

ordered_json describe_lora(const Checkpoint& checkpoint, const fs::path& path) {
  ordered_json description = numbers_of(checkpoint, "LoRA");
  try {
    const LoraFile lora = open_lora(path);
    for (const LoraFamily family : lora.families) {
      description["families"].push_back(lora_family_title(family));
    }
    std::set<double> scales;
    std::set<std::string> parameters;
    for (const LoraChange& change : lora.changes) {
      parameters.insert(change.target);
      if (change.down) {
        scales.insert(change.scale);
      }
    }
    description["ranks"] = lora.ranks;
    description["scales"] = scales;  // alpha / rank
    description["changed_parameters"] = parameters.size();
    if (!lora.remarks.empty()) {
      description["remarks"] = lora.remarks;
    }
  } catch (const InputError& error) {
    description["problem"] = error.what();
  }
  return description;
}

// `weights`: the path of the tensors. `path`: the path that the user gave, which open_lora() opens
// if the checkpoint is a LoRA.
ordered_json describe_checkpoint(const Checkpoint& checkpoint, const fs::path& weights,
                                 const fs::path& path) {
  const auto files_as = [&](ModelPart part) {
    ModelPaths paths;
    (part == ModelPart::kTransformer   ? paths.transformer
     : part == ModelPart::kTextEncoder ? paths.text_encoder
                                       : paths.vae) = weights;
    return find_model_files(paths).require(part);
  };
  std::string problem;
  if (recognises(transformer_keys, checkpoint, problem)) {
    return describe_transformer(checkpoint, files_as(ModelPart::kTransformer));
  }
  if (recognises(umt5_keys, checkpoint, problem)) {
    return describe_text_encoder(checkpoint, files_as(ModelPart::kTextEncoder));
  }
  if (recognises(vae_keys, checkpoint, problem)) {
    return describe_vae(checkpoint, files_as(ModelPart::kVae));
  }
  if (looks_like_lora(checkpoint)) {
    return describe_lora(checkpoint, path);
  }
  ordered_json description = numbers_of(checkpoint, "unknown");
  description["problem"] = problem;
  return description;
}

constexpr ModelPart kWeightParts[] = {ModelPart::kTransformer, ModelPart::kTextEncoder,
                                      ModelPart::kVae};

ordered_json describe_package(const fs::path& folder, const ModelFiles& files) {
  ordered_json description = {{"path", folder.string()},
                              {"kind", "model"},
                              {"layout", layout_name(files.family)},
                              {"parts", ordered_json::array()}};
  std::vector<std::string> missing;
  for (const ModelPart part : kWeightParts) {
    if (files.has(part)) {
      const PartFiles& found = files.require(part);
      description["parts"].push_back(
          describe_checkpoint(open_part(found), found.weights, found.weights));
    }
  }
  if (files.has(ModelPart::kTokenizer)) {
    description["tokenizer"] = files.require(ModelPart::kTokenizer).weights.string();
  }
  for (size_t i = 0; i < kModelParts; ++i) {
    if (!files.has(static_cast<ModelPart>(i))) {
      missing.push_back(files.parts[i].failure);
    }
  }
  description["missing"] = missing;
  return description;
}

std::string grouped(uint64_t number) {
  std::string text = std::to_string(number);
  for (size_t i = text.size(); i > 3; i -= 3) {
    text.insert(i - 3, 1, ',');
  }
  return text;
}

std::string value_text(const ordered_json& value) {
  if (value.is_string()) {
    return value.get<std::string>();
  }
  if (value.is_number_integer()) {
    return grouped(value.get<uint64_t>());  // all numbers here are non-negative
  }
  if (value.is_object()) {
    std::string text;
    for (const auto& [key, entry] : value.items()) {
      text += (text.empty() ? "" : ", ") + key + " " +
              (entry.is_string() ? entry.get<std::string>() : entry.dump());
    }
    return text;
  }
  if (!value.is_array()) {
    return value.dump();
  }
  std::vector<std::string> entries;
  for (const ordered_json& entry : value) {
    entries.push_back(value_text(entry));
  }
  return entries.empty() ? "none"
                         : (entries.size() > 1 ? std::to_string(entries.size()) + ": " : "") +
                               list_text(entries);
}

}  // namespace

ordered_json inspect_model(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    const Checkpoint checkpoint = open_checkpoint(path);
    return is_all_in_one(checkpoint) ? describe_package(path, find_model_files({.model = path}))
                                     : describe_checkpoint(checkpoint, path, path);
  }
  if (const auto lora = lora_weights_in(path)) {
    return describe_checkpoint(open_checkpoint(*lora), *lora, path);
  }
  const ModelFiles files = find_model_files({.model = path});
  const bool has_others = files.has(ModelPart::kTextEncoder) || files.has(ModelPart::kVae) ||
                          files.has(ModelPart::kTokenizer);
  if (has_others || files.family == ModelFamily::kDiffusers) {
    return describe_package(path, files);
  }
  return describe_checkpoint(open_checkpoint(path), path, path);
}

std::string description_text(const ordered_json& description) {
  std::string text = description.value("path", "") + "\n";
  for (const auto& [key, value] : description.items()) {
    if (key == "path") {
      continue;
    }
    if (key == "parts") {
      for (const ordered_json& part : value) {
        text += description_text(part);
      }
      continue;
    }
    std::string title = "  " + key;
    title.resize(std::max<size_t>(title.size() + 2, 22), ' ');
    std::replace(title.begin(), title.end(), '_', ' ');
    text += title + value_text(value) + "\n";
  }
  return text;
}

}  // namespace ospnext
