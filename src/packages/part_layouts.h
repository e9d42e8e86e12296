// The file names, tensor names and config.json of each part of a model in each package layout.
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

// The layouts are those of ModelFamily. kParts is written as a folder with one file for each part.
// find_model_files recognises their names; the text encoder's file also contains the tokenizer.

// Parses "wan", "diffusers", "osp-next" or "single-file" (kParts). Throws InputError, beginning
// with `flag`, for any other text.
ModelFamily parse_layout(const std::string& text, const std::string& flag);
const char* layout_name(ModelFamily layout);

// The location of a part in a package.
struct PartPlace {
  const char* folder;  // in the package; "" for the package's own folder
  const char* stem;    // the file is <stem>.safetensors
  bool may_be_sharded;
};
PartPlace part_place(ModelPart part, ModelFamily layout);

// The tokenizer's file in a package; in the single-file layout, if no text encoder contains it.
const char* tokenizer_place(ModelFamily layout);

// The config.json of a part; nothing if the layout has none. Throws InputError with the fields if a
// reader of the files would find another configuration in them. For example, Wan's layout cannot
// express a sparse model. In diffusers' layout a sparse transformer is an OSPNextModel, as in our
// own model folders. `shapes`: of the part's tensors, by the names of our modules.
std::optional<nlohmann::json> layout_config(const TransformerConfig& config, ModelFamily layout,
                                            const TensorShapes& shapes);
std::optional<nlohmann::json> layout_config(const VaeConfig& config, ModelFamily layout,
                                            const TensorShapes& shapes);
std::optional<nlohmann::json> layout_config(const Umt5Config& config, ModelFamily layout,
                                            const TensorShapes& shapes);

// Translates names of our modules to names of the layout. `names`: all names of the part. `config`:
// its layout_config().
KeyMap layout_keys(ModelPart part, ModelFamily layout, const std::vector<std::string>& names,
                   const std::optional<nlohmann::json>& config);

// Further files of diffusers' layout: tokenizer/tokenizer_config.json, model_index.json and
// scheduler/scheduler_config.json. `transformer_class`: WanTransformer3DModel or OSPNextModel.
nlohmann::json tokenizer_config();
nlohmann::json model_index(const std::string& transformer_class);
nlohmann::json scheduler_config(const TransformerConfig& config);

// Names and shapes of all tensors of a part, without allocating its weights.
TensorShapes part_shapes(const TransformerConfig& config);
TensorShapes part_shapes(const VaeConfig& config);
TensorShapes part_shapes(const Umt5Config& config);

}  // namespace ospnext
