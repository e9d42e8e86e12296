// Reads the fixtures of tools/make_transformer_fixtures.py.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "core/fields.h"
#include "io/weights.h"
#include "models/transformer.h"
#include "support/paths.h"

namespace ospnext {

// A file of weights, inputs and expected outputs.
class TransformerFixture {
 public:
  explicit TransformerFixture(const std::string& file)
      : checkpoint_(open_checkpoint(fixture_path("transformer/" + file))) {}

  nlohmann::json metadata(const std::string& key) const {
    return nlohmann::json::parse(checkpoint_.metadata().at(key));
  }

  bool has(const std::string& name) const { return checkpoint_.tensors().contains(name); }
  at::Tensor tensor(const std::string& name) const {
    return to_tensor(checkpoint_.tensors().at(name)).clone();
  }

  // A model with the file's config, changed by `settings`, and the file's weights.
  Transformer model(const nlohmann::json& settings = nlohmann::json::object(),
                    at::TensorOptions options = at::kFloat) const {
    nlohmann::json fields = metadata("config");
    fields.update(settings);
    TransformerConfig config;
    fields_from_json(config, fields, checkpoint_.path());
    Transformer transformer(config, options);
    load_weights(*transformer, checkpoint_, [](const std::string& name) {
      const std::string prefix = "weights.";
      return name.starts_with(prefix) ? name.substr(prefix.size()) : std::string();
    });
    return transformer;
  }

  // The velocity for the inputs stored under `name`, on the model's device.
  at::Tensor run(Transformer& transformer, const std::string& name) const {
    const at::Device device = transformer->head->modulation.device();
    return transformer->forward(tensor(name + ".latent").to(device),
                                tensor(name + ".text").to(device),
                                tensor(name + ".timestep").to(device));
  }

 private:
  Checkpoint checkpoint_;
};

}  // namespace ospnext
