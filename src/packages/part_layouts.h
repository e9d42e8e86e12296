// How each package layout keeps a part of a model: file names, tensor names and config.json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "io/readers/key_layouts.h"
#include "models/transformer.h"
#include "models/umt5.h"
#include "models/vae.h"
#include "packages/model_folder.h"

namespace ospnext {

// Layouts are those of ModelFamily; kParts is written as one file a part in one folder, named so that
// find_model_files finds them, the text encoder's with the tokenizer inside.

// "wan", "diffusers", "osp-next" or "single-file" (kParts); InputError beginning with `flag` for another
// text.
ModelFamily parse_layout(const std::string& text, const std::string& flag);
const char* layout_name(ModelFamily layout);

// The files of a part in a package.
struct PartPlace {
  const char* folder;  // in the package; "" for the package itself
  const char* stem;    // of <stem>.safetensors
  bool may_be_sharded;
};
PartPlace part_place(ModelPart part, ModelFamily layout);

// The tokenizer's file in a package; of the single-file layout where no text encoder carries it.
const char* tokenizer_place(ModelFamily layout);

// The config.json of a part; nothing where the layout has none. Throws InputError, naming the fields,
// when a reader of the files would not find this very configuration in them: Wan's layout cannot say
// that a model is sparse. In diffusers' layout such a transformer is an OSPNextModel, as in our own
// model folders. `shapes` are those of the part's tensors, in the names of our modules.
std::optional<nlohmann::json> layout_config(const TransformerConfig& config, ModelFamily layout,
                                            const TensorShapes& shapes);
std::optional<nlohmann::json> layout_config(const VaeConfig& config, ModelFamily layout,
                                            const TensorShapes& shapes);
std::optional<nlohmann::json> layout_config(const Umt5Config& config, ModelFamily layout,
                                            const TensorShapes& shapes);

// From the names of our modules to the layout's; `names` are all of the part, `config` is its
// layout_config.
KeyMap layout_keys(ModelPart part, ModelFamily layout, const std::vector<std::string>& names,
                   const std::optional<nlohmann::json>& config);

// Further files of diffusers' layout: tokenizer/tokenizer_config.json, model_index.json and
// scheduler/scheduler_config.json. `transformer_class` is WanTransformer3DModel or OSPNextModel.
nlohmann::json tokenizer_config();
nlohmann::json model_index(const std::string& transformer_class);
nlohmann::json scheduler_config(const TransformerConfig& config);

// Names and shapes of all tensors of a part, without its weights in memory.
TensorShapes part_shapes(const TransformerConfig& config);
TensorShapes part_shapes(const VaeConfig& config);
TensorShapes part_shapes(const Umt5Config& config);

}  // namespace ospnext
