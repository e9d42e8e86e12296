#include "models/transformer_config.h"

#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/fields.h"
#include "io/readers/key_rewriting.h"

namespace ospnext {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& origin, const std::string& field,
                         const std::string& found, const std::string& expected) {
  throw InputError(origin + ": " + field + ": found " + found + ", expected " + expected);
}

void check_range(const std::string& origin, const char* field, int64_t value, int64_t low,
                 int64_t high) {
  if (value < low || value > high) {
    refuse(origin, field, std::to_string(value),
           std::to_string(low) + " to " + std::to_string(high));
  }
}

[[noreturn]] void refuse_image_to_video(const std::string& origin, const std::string& evidence) {
  throw InputError(origin + ": found an image-to-video model (" + evidence +
                   "), expected a text-to-video one");
}

// The values of the JSON by our field names, and the set of fields that the JSON contains.
struct Reading {
  TransformerConfig config;
  std::set<std::string> named;
};

// Throws unless the JSON lacks `key` or its value is one of `accepted`. Other values belong to
// models with other blocks.
void require(const json& source, const std::string& origin, const char* key,
             std::initializer_list<json> accepted) {
  const auto found = source.find(key);
  if (found == source.end() || found->is_null()) {
    return;
  }
  for (const json& value : accepted) {
    if (*found == value) {
      return;
    }
  }
  refuse(origin, key, found->dump(), accepted.begin()->dump());
}

void reject_other_models(const json& source, const std::string& origin) {
  const auto present = [&](const char* key) {
    return source.contains(key) && !source[key].is_null();
  };
  if (present("model_type") && source["model_type"] != "t2v") {
    const std::string type = source["model_type"].dump();
    if (type == "\"i2v\"" || type == "\"flf2v\"") {
      refuse_image_to_video(origin, "model_type is " + type);
    }
    refuse(origin, "model_type", type, "\"t2v\"");
  }
  for (const char* key : {"image_dim", "added_kv_proj_dim"}) {
    if (present(key)) {
      refuse_image_to_video(origin, std::string(key) + " is " + source[key].dump());
    }
  }
  require(source, origin, "patch_size", {json::array({1, kPatchRows, kPatchColumns})});
  require(source, origin, "qk_norm", {true, "rms_norm_across_heads"});
  require(source, origin, "cross_attn_norm", {true});
  require(source, origin, "window_size", {json::array({-1, -1})});
  require(source, origin, "num_register_tokens", {0});
  require(source, origin, "skiparse_1d", {false});
}

// Renames diffusers' keys; drops nulls and keys that this program does not use.
json known_keys(const json& source, const std::string& origin) {
  json renamed = json::object();
  TransformerConfig().visit([&](const char* name, const auto&, const char*) {
    if (source.contains(name) && !source[name].is_null()) {
      renamed[name] = source[name];
    }
  });
  constexpr std::array<std::pair<const char*, const char*>, 3> kDiffusersNames{
      {{"num_attention_heads", "num_heads"},
       {"in_channels", "in_dim"},
       {"out_channels", "out_dim"}}};
  for (const auto& [theirs, ours] : kDiffusersNames) {
    if (source.contains(theirs) && !source[theirs].is_null()) {
      renamed[ours] = source[theirs];
    }
  }
  const auto head_dim = source.find("attention_head_dim");
  if (head_dim != source.end() && !renamed.contains("dim") && renamed.contains("num_heads")) {
    for (const json& number : {*head_dim, renamed["num_heads"]}) {
      if (!number.is_number_integer() || number < 1 || number > 65536) {
        refuse(origin, "attention_head_dim or num_attention_heads", number.dump(), "1 to 65536");
      }
    }
    renamed["dim"] = head_dim->get<int64_t>() * renamed["num_heads"].get<int64_t>();
  }
  return renamed;
}

Reading read_json(const json& source, const std::string& origin) {
  if (!source.is_object()) {
    throw InputError(origin + ": expected a JSON object, found " + source.type_name());
  }
  reject_other_models(source, origin);
  const json renamed = known_keys(source, origin);
  Reading reading;
  fields_from_json(reading.config, renamed, origin);
  for (const auto& [key, value] : renamed.items()) {
    reading.named.insert(key);
  }
  return reading;
}

const std::vector<int64_t>& shape_of(const TensorShapes& shapes, const std::string& name,
                                     size_t rank, const std::string& origin) {
  const auto found = shapes.find(name);
  if (found == shapes.end()) {
    throw InputError(origin + ": tensor " + name +
                     " is missing, expected a Wan or OSP-Next transformer");
  }
  if (found->second.size() != rank) {
    refuse(origin, name, std::to_string(found->second.size()) + " dimensions",
           std::to_string(rank));
  }
  return found->second;
}

// Field -> value, for all sizes that the shapes determine.
std::map<std::string, int64_t> sizes_from_shapes(const TensorShapes& shapes,
                                                 const std::string& origin) {
  const int64_t num_layers = count_blocks(shapes, "blocks.", origin);
  const auto& patch = shape_of(shapes, "patch_embedding.weight", 5, origin);
  return {{"dim", shape_of(shapes, "head.modulation", 3, origin)[2]},
          {"ffn_dim", shape_of(shapes, "blocks.0.ffn.0.weight", 2, origin)[0]},
          {"freq_dim", shape_of(shapes, "time_embedding.0.weight", 2, origin)[1]},
          {"text_dim", shape_of(shapes, "text_embedding.0.weight", 2, origin)[1]},
          {"in_dim", patch[1]},
          {"out_dim",
           shape_of(shapes, "head.head.weight", 2, origin)[0] / (kPatchRows * kPatchColumns)},
          {"num_layers", num_layers}};
}

}  // namespace

SkiparseType TransformerConfig::skiparse_type() const {
  if (skiparse_model_type == "full") {
    return SkiparseType::kFull;
  }
  if (skiparse_model_type == "dual_end") {
    return SkiparseType::kDualEnd;
  }
  if (skiparse_model_type == "uniform") {
    return SkiparseType::kUniform;
  }
  throw InputError("skiparse_model_type: found \"" + skiparse_model_type +
                   "\", expected full, dual_end or uniform");
}

void TransformerConfig::check(const std::string& origin) const {
  constexpr int64_t kLargestWidth = 1 << 17;  // far above all known models; products fit int64
  check_range(origin, "dim", dim, 2, kLargestWidth);
  check_range(origin, "ffn_dim", ffn_dim, 1, kLargestWidth);
  check_range(origin, "freq_dim", freq_dim, 2, kLargestWidth);
  check_range(origin, "text_dim", text_dim, 1, kLargestWidth);
  check_range(origin, "text_len", text_len, 1, kLargestWidth);
  check_range(origin, "in_dim", in_dim, 1, 4096);
  check_range(origin, "out_dim", out_dim, 1, 4096);
  check_range(origin, "num_heads", num_heads, 1, dim / 2);
  check_range(origin, "num_layers", num_layers, 1, 4096);
  check_range(origin, "sparse_ratio", sparse_ratio, 1, 1024);
  check_range(origin, "num_full_blocks", num_full_blocks, 0, num_layers);
  if (in_dim != out_dim) {  // an image-to-video model has extra input channels for the image
    refuse(origin, "in_dim", std::to_string(in_dim),
           "out_dim " + std::to_string(out_dim) + ", as a text-to-video model has it");
  }
  if (freq_dim % 2 != 0) {
    refuse(origin, "freq_dim", std::to_string(freq_dim), "an even number");
  }
  if (dim % num_heads != 0 || head_dim() % 2 != 0) {
    refuse(origin, "num_heads", std::to_string(num_heads),
           "a divisor of dim " + std::to_string(dim) + " that leaves heads of even width");
  }
  if (!std::isfinite(eps) || eps <= 0) {
    refuse(origin, "eps", std::to_string(eps), "a positive number");
  }
  for (const auto& [name, value] :
       {std::pair("quant", quant), std::pair("quant_attn", quant_attn)}) {
    if (!value.empty() && value != "hif8") {
      refuse(origin, name, "\"" + value + "\"", "hif8 or nothing");
    }
  }
  for (const auto& [name, value] : {std::pair("scale_max_forward", scale_max_forward),
                                    std::pair("scale_max_backward", scale_max_backward)}) {
    if (!std::isfinite(value) || value <= 0) {
      refuse(origin, name, std::to_string(value), "a positive number");
    }
  }
  SkiparseType type{};
  try {
    type = skiparse_type();
  } catch (const InputError& error) {
    throw InputError(origin + ": " + error.what());
  }
  if (type == SkiparseType::kUniform && num_full_blocks != 0) {
    refuse(origin, "num_full_blocks", std::to_string(num_full_blocks), "0 in a uniform model");
  }
  if (type == SkiparseType::kDualEnd &&
      (num_full_blocks % 4 != 0 || num_full_blocks > num_layers / 2)) {
    refuse(origin, "num_full_blocks", std::to_string(num_full_blocks),
           "a multiple of 4, at most half of num_layers " + std::to_string(num_layers) +
               ", in a dual_end model");
  }
  // the last sparse block must be a group block
  if (type != SkiparseType::kFull && num_layers % 2 != 0) {
    refuse(origin, "num_layers", std::to_string(num_layers),
           "an even number in a " + skiparse_model_type + " model");
  }
}

TransformerConfig transformer_config_from_json(const json& source, const std::string& origin) {
  const Reading reading = read_json(source, origin);
  for (const char* field : {"dim", "ffn_dim", "num_heads", "num_layers"}) {
    if (!reading.named.contains(field)) {
      throw InputError(origin + ": " + field + " is missing, expected a transformer's config.json");
    }
  }
  reading.config.check(origin);
  return reading.config;
}

TransformerConfig infer_transformer_config(const TensorShapes& shapes, const std::string& origin) {
  return resolve_transformer_config(json::object(), origin, shapes, origin);
}

TransformerConfig resolve_transformer_config(const json& source, const std::string& json_origin,
                                             const TensorShapes& shapes,
                                             const std::string& shapes_origin) {
  Reading reading = read_json(source, json_origin);
  const auto sizes = sizes_from_shapes(shapes, shapes_origin);
  reading.config.visit([&](const char* name, auto& value, const char*) {
    if constexpr (std::is_same_v<std::decay_t<decltype(value)>, int64_t>) {
      const auto size = sizes.find(name);
      if (size == sizes.end()) {
        return;
      }
      if (reading.named.contains(name) && value != size->second) {
        throw InputError(json_origin + ": " + name + ": found " + std::to_string(value) + ", but " +
                         shapes_origin + " holds " + std::to_string(size->second));
      }
      value = size->second;
    }
  });
  TransformerConfig& config = reading.config;
  if (!reading.named.contains("num_heads")) {
    constexpr int64_t kUsualHeadDim = 128;
    if (config.dim % kUsualHeadDim != 0) {
      refuse(shapes_origin, "dim", std::to_string(config.dim),
             "a multiple of 128 where no config.json names num_heads");
    }
    config.num_heads = config.dim / kUsualHeadDim;
  }
  config.check(source.empty() ? shapes_origin : json_origin);
  return config;
}

}  // namespace ospnext
