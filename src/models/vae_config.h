// Configuration of the Wan2.1 video VAE: defaults, a config.json, or the shapes of a checkpoint.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "io/readers/tensor_file.h"

namespace ospnext {

// The defaults are those of the released Wan2.1 VAE. The field names in visit() are those of
// diffusers' config.json.
struct VaeConfig {
  int64_t dim = 96;                           // channels at full resolution
  int64_t z_dim = 16;                         // latent channels
  std::vector<int64_t> dim_mult{1, 2, 4, 4};  // channels per level, in units of dim
  int64_t num_res_blocks = 2;                 // per encoder level; the decoder has one more
  // per level except the last: whether the downsampling after it also halves the frame rate
  std::vector<bool> temperal_downsample{false, true, true};
  std::vector<double> latents_mean{-0.7571, -0.7089, -0.9113, 0.1075,  -0.1745, 0.9653,
                                   -0.1517, 1.5508,  0.4134,  -0.0715, 0.5517,  -0.3632,
                                   -0.1922, -0.9497, 0.2503,  -0.2921};
  std::vector<double> latents_std{2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
                                  3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160};

  // Pixels per latent value along height and width: 8 for the released model.
  int64_t spatial_factor() const { return int64_t{1} << (dim_mult.size() - 1); }
  // Frames per latent frame: 4 for the released model. The first latent frame has a single frame.
  int64_t temporal_factor() const;

  // Throws an InputError that names the field, its value and the rule that it breaks.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("base_dim", dim, "channels at full resolution");
    field("z_dim", z_dim, "latent channels");
    field("dim_mult", dim_mult, "channels of each level, in units of base_dim");
    field("num_res_blocks", num_res_blocks,
          "residual blocks per encoder level; the decoder has one more");
    field("temperal_downsample", temperal_downsample, "whether each downsampling also halves time");
    field("latents_mean", latents_mean, "mean of each latent channel, subtracted by the encoder");
    field("latents_std", latents_std, "standard deviation of each latent channel");
  }
};

// Reads diffusers' config.json of an AutoencoderKLWan. Skips keys that this program does not use.
// Throws an InputError that begins with `origin` for wrong values and for variants other than
// Wan2.1's VAE.
VaeConfig vae_config_from_json(const nlohmann::json& json, const std::string& origin);

// Derives the config from tensor shapes, by Wan's original names, for a file without config.json.
// The latent statistics are Wan2.1's if z_dim is 16, else mean 0 and standard deviation 1. Throws
// InputError for the Wan2.2 VAE, for tensors that are not those of a Wan VAE, and for a VAE that
// lacks an encoder block below the largest block number. Source: the tensors of Wan2.1_VAE.pth.
VaeConfig infer_vae_config(const TensorShapes& shapes);

}  // namespace ospnext
