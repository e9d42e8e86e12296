// Reads, infers and checks the configuration of the video VAE.
#include "models/vae_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/fields.h"
#include "io/readers/key_rewriting.h"

namespace ospnext {
namespace {

constexpr int64_t kMaxChannels = 1 << 16;
constexpr int64_t kMaxLevels = 8;
constexpr int64_t kMaxResBlocks = 64;

void require(bool holds, const std::string& what) {
  if (!holds) {
    throw InputError("VAE config: " + what);
  }
}

void require_range(const char* name, int64_t value, int64_t low, int64_t high) {
  require(value >= low && value <= high, std::string(name) + " is " + std::to_string(value) +
                                             ", expected " + std::to_string(low) + " to " +
                                             std::to_string(high));
}

void require_length(const char* name, size_t found, size_t expected) {
  require(found == expected, std::string(name) + " has " + std::to_string(found) +
                                 " values, expected " + std::to_string(expected));
}

// The first dimension of the tensor `name`; nothing if there is no such tensor. Throws unless the
// tensor has `rank` dimensions and 1 to kMaxChannels rows.
std::optional<int64_t> rows_of(const TensorShapes& shapes, const std::string& name, size_t rank) {
  const auto found = shapes.find(name);
  if (found == shapes.end() || found->second.empty()) {
    return std::nullopt;
  }
  const std::vector<int64_t>& shape = found->second;
  if (shape.size() != rank || shape[0] < 1 || shape[0] > kMaxChannels) {
    throw InputError("VAE tensor " + name + ": found a shape of " + std::to_string(shape.size()) +
                     " dimensions and " + std::to_string(shape[0]) + " rows, expected " +
                     std::to_string(rank) + " dimensions and 1 to " + std::to_string(kMaxChannels) +
                     " rows");
  }
  return shape[0];
}

// Reads the levels of the encoder. Its residual blocks and resamplings form one flat list.
void read_encoder_levels(VaeConfig& config, const TensorShapes& shapes) {
  const std::string list = "encoder.downsamples.";
  const int64_t count = count_blocks(shapes, list, "VAE");
  int64_t blocks = 0;  // residual blocks of the current level
  for (int64_t i = 0; i < count; ++i) {
    const std::string layer = list + std::to_string(i);
    const auto width = rows_of(shapes, layer + ".residual.2.weight", 5);
    if (width) {
      ++blocks;
      if (blocks == 1) {
        if (*width % config.dim != 0) {
          throw InputError("VAE tensor " + layer + ".residual.2.weight: found " +
                           std::to_string(*width) + " rows, expected a multiple of " +
                           std::to_string(config.dim));
        }
        config.dim_mult.push_back(*width / config.dim);
      }
      if (config.dim_mult.size() == 1) {
        config.num_res_blocks = blocks;
      }
    } else if (shapes.contains(layer + ".resample.1.weight")) {
      config.temperal_downsample.push_back(shapes.contains(layer + ".time_conv.weight"));
      blocks = 0;
    } else {
      throw InputError("VAE: " + layer +
                       " has neither residual.2.weight nor resample.1.weight, expected a residual "
                       "block or a resampling");
    }
  }
}

}  // namespace

int64_t VaeConfig::temporal_factor() const {
  return int64_t{1} << std::count(temperal_downsample.begin(), temperal_downsample.end(), true);
}

void VaeConfig::check() const {
  require_range("base_dim", dim, 1, kMaxChannels);
  require_range("z_dim", z_dim, 1, kMaxChannels);
  require_range("num_res_blocks", num_res_blocks, 1, kMaxResBlocks);
  require_range("number of dim_mult values", static_cast<int64_t>(dim_mult.size()), 1, kMaxLevels);
  for (size_t level = 0; level < dim_mult.size(); ++level) {
    require_range("dim_mult", dim_mult[level], 1, kMaxChannels / dim);
    require(level == 0 || dim * dim_mult[level] % 2 == 0,
            "base_dim * dim_mult is " + std::to_string(dim * dim_mult[level]) +
                ", expected an even number, which the decoder's upsampling halves");
  }
  require_length("temperal_downsample", temperal_downsample.size(), dim_mult.size() - 1);
  require_length("latents_mean", latents_mean.size(), static_cast<size_t>(z_dim));
  require_length("latents_std", latents_std.size(), static_cast<size_t>(z_dim));
  for (const double mean : latents_mean) {
    require(std::isfinite(mean), "latents_mean has a value that is not finite");
  }
  for (const double deviation : latents_std) {
    require(
        std::isfinite(deviation) && deviation > 0,
        "latents_std has the value " + std::to_string(deviation) + ", expected positive numbers");
  }
}

VaeConfig vae_config_from_json(const nlohmann::json& json, const std::string& origin) {
  VaeConfig config;
  std::vector<std::string> unknown;
  fields_from_json(config, json, origin, &unknown);
  const auto refuse_unless = [&](const char* key, const nlohmann::json& expected) {
    const auto found = json.find(key);
    if (found != json.end() && !found->is_null() && *found != expected) {
      throw InputError(origin + ": " + key + " is " + found->dump() + ", expected " +
                       expected.dump() + " as in the Wan2.1 VAE (the Wan2.2 VAE is not supported)");
    }
  };
  refuse_unless("_class_name", "AutoencoderKLWan");
  refuse_unless("is_residual", false);
  refuse_unless("in_channels", 3);
  refuse_unless("out_channels", 3);
  refuse_unless("patch_size", 1);
  refuse_unless("attn_scales", nlohmann::json::array());
  try {
    config.check();
  } catch (const InputError& error) {
    throw InputError(origin + ": " + error.what());
  }
  return config;
}

VaeConfig infer_vae_config(const TensorShapes& shapes) {
  if (shapes.contains("decoder.upsamples.0.upsamples.0.residual.2.weight")) {
    throw InputError("VAE: found the Wan2.2 VAE, expected the Wan2.1 VAE");
  }
  const auto dim = rows_of(shapes, "encoder.conv1.weight", 5);
  const auto z_dim = rows_of(shapes, "conv2.weight", 5);
  if (!shapes.contains("decoder.middle.0.residual.0.gamma") || !dim || !z_dim) {
    throw InputError(
        "VAE: found no decoder.middle.0.residual.0.gamma, encoder.conv1.weight or conv2.weight, "
        "expected the tensors of a Wan2.1 VAE");
  }
  VaeConfig config;
  config.dim = *dim;
  config.z_dim = *z_dim;
  config.dim_mult.clear();
  config.temperal_downsample.clear();
  read_encoder_levels(config, shapes);
  if (config.z_dim != static_cast<int64_t>(config.latents_mean.size())) {
    config.latents_mean.assign(static_cast<size_t>(config.z_dim), 0.0);
    config.latents_std.assign(static_cast<size_t>(config.z_dim), 1.0);
  }
  config.check();
  return config;
}

}  // namespace ospnext
