// The flags that select the model and its LoRAs.
#pragma once

#include <string>
#include <vector>

#include "packages/model_folder.h"

namespace ospnext {

// For commands that run the transformer.
struct LoraFields {
  std::vector<std::string> lora;

  // Throws InputError if a strength is not a number.
  std::vector<LoraChoice> choices() const {
    std::vector<LoraChoice> choices;
    for (const std::string& text : lora) {
      choices.push_back(parse_lora_choice(text));
    }
    return choices;
  }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("lora", lora,
          "FILE or FILE:STRENGTH of a LoRA to add to the transformer; may be repeated");
  }
};

struct ModelFields {
  std::string model;
  std::string transformer;
  std::string text_encoder;
  std::string vae;
  std::string tokenizer;
  std::string transformer_config;

  // Throws InputError for a path that does not exist.
  ModelFiles find(const LoraFields& loras = {}) const {
    ModelFiles files =
        find_model_files({model, transformer, text_encoder, vae, tokenizer, loras.choices()});
    auto& found = files.parts[static_cast<size_t>(ModelPart::kTransformer)].files;
    if (found && !transformer_config.empty()) {
      found->config = transformer_config;
    }
    return files;
  }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("model", model,
          "directory of a model (Wan-AI, diffusers or OSP-Next layout), or a file with all its "
          "parts");
    field("transformer", transformer, "file or directory of the transformer alone");
    field("text_encoder", text_encoder, "file or directory of the text encoder alone");
    field("vae", vae, "file or directory of the VAE alone");
    field("tokenizer", tokenizer, "spiece.model, or the directory that holds it");
    field("transformer_config", transformer_config,
          "config.json for a transformer that has none beside it, or OSP-Next's YAML");
  }
};

}  // namespace ospnext
