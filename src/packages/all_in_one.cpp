#include "packages/all_in_one.h"

#include <array>
#include <set>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "io/readers/bounded_json.h"

namespace ospnext {
namespace {

struct PartPrefix {
  std::string_view begin;
  ModelPart part;
};

constexpr std::array kPrefixes{
    PartPrefix{"model.diffusion_model.", ModelPart::kTransformer},
    PartPrefix{"vae.", ModelPart::kVae},
    PartPrefix{"first_stage_model.", ModelPart::kVae},
    PartPrefix{"text_encoders.umt5xxl.transformer.", ModelPart::kTextEncoder},
};

constexpr const char* kOwnTokenizer = "spiece_model";  // in a file of the text encoder alone
constexpr std::array<const char*, 3> kTokenizers{
    "text_encoders.spiece_model",
    "text_encoders.umt5xxl.spiece_model",
    "text_encoders.umt5xxl.transformer.spiece_model",
};

std::set<ModelPart> parts_in(const Checkpoint& checkpoint) {
  std::set<ModelPart> parts;
  for (const auto& entry : checkpoint.tensors()) {
    if (const auto part = part_of_tensor(entry.first)) {
      parts.insert(*part);
    }
  }
  return parts;
}

// Keeps only the layers of the part in ComfyUI's description of quantised layers
// ({"layers": {name: ...}}). Does not change malformed descriptions: fp8_scales() refuses them.
void keep_layers(Checkpoint& checkpoint, ModelPart part) {
  constexpr const char* kLayers = "_quantization_metadata";
  const auto found = checkpoint.metadata().find(kLayers);
  if (found == checkpoint.metadata().end()) {
    return;
  }
  const std::string origin = checkpoint.path() + ": metadata " + kLayers;
  nlohmann::json description = parse_bounded_json(found->second, origin, 8);
  if (!description.is_object() || !description["layers"].is_object()) {
    return;
  }
  nlohmann::json own = nlohmann::json::object();
  for (const auto& [layer, what] : description["layers"].items()) {
    if (part_of_tensor(layer) == part) {
      own[layer] = what;
    }
  }
  description["layers"] = own;
  checkpoint.set_metadata(kLayers, description.dump());
}

}  // namespace

std::optional<ModelPart> part_of_tensor(const std::string& name) {
  for (const char* tokenizer : kTokenizers) {
    if (name == tokenizer) {
      return ModelPart::kTokenizer;
    }
  }
  for (const auto& [begin, part] : kPrefixes) {
    if (name.starts_with(begin)) {
      return part;
    }
  }
  return std::nullopt;
}

bool is_all_in_one(const Checkpoint& checkpoint) {
  return parts_in(checkpoint).size() > 1;
}

bool brings_part(const Checkpoint& checkpoint, ModelPart part) {
  const auto parts = parts_in(checkpoint);
  return parts.size() > 1 && parts.contains(part);
}

void keep_part(Checkpoint& checkpoint, ModelPart part) {
  const auto parts = parts_in(checkpoint);
  if (parts.size() <= 1) {
    return;
  }
  if (!parts.contains(part)) {
    std::vector<std::string> titles;
    for (const ModelPart other : parts) {
      titles.emplace_back(part_title(other));
    }
    throw InputError(checkpoint.path() + ": expected a " + part_title(part) +
                     " among the parts in this file, found " + list_text(titles));
  }
  checkpoint.keep([&](const std::string& name) { return part_of_tensor(name) == part; });
  keep_layers(checkpoint, part);
}

const TensorRecord* find_tokenizer(const Checkpoint& checkpoint) {
  const TensorMap& tensors = checkpoint.tensors();
  for (const char* name : {kOwnTokenizer, kTokenizers[0], kTokenizers[1], kTokenizers[2]}) {
    if (const auto found = tensors.find(name); found != tensors.end()) {
      return &found->second;
    }
  }
  return nullptr;
}

}  // namespace ospnext
