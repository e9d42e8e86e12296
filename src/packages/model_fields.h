// The flags that select the model and its LoRAs.
#pragma once

#include <string>
#include <vector>

#include "packages/model_folder.h"

namespace ospnext {

// For commands that put LoRAs into files.
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

// For commands that run the transformer.
struct LiveLoraFields : LoraFields {
  std::string lora_mode = "auto";

  // Throws InputError for another text.
  LoraMode mode() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    LoraFields::visit(field);
    field(
        "lora_mode", lora_mode,
        "merge: add LoRAs to the weights; live: compute them beside the weights; auto: merge, but "
        "live beside HiF8 weights, so that LoRAs are not rounded");
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
  ModelFiles find(const LoraFields& loras = {}) const;
  ModelFiles find(const LiveLoraFields& loras) const;

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
