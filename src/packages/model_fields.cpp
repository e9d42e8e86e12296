#include "packages/model_fields.h"

#include "core/error.h"

namespace ospnext {
namespace {

ModelFiles find_files(const ModelFields& fields, const LoraFields& loras, LoraMode mode) {
  ModelFiles files = find_model_files({fields.model, fields.transformer, fields.text_encoder,
                                       fields.vae, fields.tokenizer, loras.choices(), mode});
  auto& found = files.parts[static_cast<size_t>(ModelPart::kTransformer)].files;
  if (found && !fields.transformer_config.empty()) {
    found->config = fields.transformer_config;
  }
  return files;
}

}  // namespace

LoraMode LiveLoraFields::mode() const {
  if (lora_mode == "auto") {
    return LoraMode::kAuto;
  }
  if (lora_mode == "merge") {
    return LoraMode::kMerge;
  }
  if (lora_mode == "live") {
    return LoraMode::kLive;
  }
  throw InputError("`lora_mode`: found " + quoted(lora_mode) + ", expected auto, merge or live");
}

ModelFiles ModelFields::find(const LoraFields& loras) const {
  return find_files(*this, loras, LoraMode::kMerge);
}

ModelFiles ModelFields::find(const LiveLoraFields& loras) const {
  return find_files(*this, loras, loras.mode());
}

}  // namespace ospnext
