// UMT5 text encoder: token ids to one vector per token, the text input of the video transformer.
// Letters: B batch, T tokens, C width, H heads, D head width.
#pragma once

#include <torch/nn/modules/container/modulelist.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// Sizes of the encoder. The defaults are those of UMT5-XXL, which Wan2.1 uses. Members are named as
// in the config.json of transformers.
struct Umt5Config {
  int64_t vocab_size = 256384;
  int64_t d_model = 4096;  // C, width of the residual stream and of the output
  int64_t num_heads = 64;  // H
  int64_t d_kv = 64;       // D; H·D may differ from C
  int64_t d_ff = 10240;    // width of the gated feed-forward
  int64_t num_layers = 24;
  // half of them for keys after the query, half for the others
  int64_t relative_attention_num_buckets = 32;
  int64_t relative_attention_max_distance = 128;  // tokens; farther keys share the last bucket
  double layer_norm_epsilon = 1e-6;

  // Throws InputError "origin: field: found value, expected rule".
  void check(const std::string& origin = "text encoder configuration") const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("vocab_size", vocab_size, "rows of the token embedding");
    field("d_model", d_model, "width of the output");
    field("num_heads", num_heads, "attention heads");
    field("d_kv", d_kv, "width of a head");
    field("d_ff", d_ff, "width of the feed-forward");
    field("num_layers", num_layers, "blocks");
    field("relative_attention_num_buckets", relative_attention_num_buckets, "distance buckets");
    field("relative_attention_max_distance", relative_attention_max_distance,
          "tokens from which on all distances are one bucket");
    field("layer_norm_epsilon", layer_norm_epsilon, "added to the mean square in RMSNorm");
  }
};

// Reads a config.json of transformers; keys that do not concern the encoder are ignored. Throws an
// InputError that begins with `origin` for a wrong value or an architecture that is not UMT5's.
Umt5Config umt5_config_from_json(const nlohmann::json& json, const std::string& origin);

// Derives the sizes from tensor shapes alone, by Wan's names. Fields that shapes do not determine
// (max distance, epsilon) keep their defaults. Throws an InputError that begins with `origin` when
// the tensors are not those of a UMT5 encoder, or when a block between others is missing.
Umt5Config infer_umt5_config(const TensorShapes& shapes, const std::string& origin);

// The bucket of every (query, key) pair, [T, T] int64. Distances below a quarter of the number of
// buckets have one bucket each; larger distances share logarithmic buckets, and all distances from
// `max_distance` on share the last one. Keys after the query use the upper half of the buckets.
// Source: transformers models/umt5/modeling_umt5.py:UMT5Attention._relative_position_bucket.
at::Tensor relative_position_buckets(int64_t num_tokens, int64_t num_buckets, int64_t max_distance,
                                     at::Device device = at::kCPU);

// One tensor named `weight`: an embedding, a projection without bias, or a norm's scale.
struct Umt5WeightImpl : torch::nn::Module {
  // The values are undefined until they are loaded or drawn.
  Umt5WeightImpl(at::IntArrayRef shape, const at::TensorOptions& options);
  // x Wᵀ, computed in the dtype of x. x [..., in] -> [..., out]
  at::Tensor project(const at::Tensor& x) const;
  // Rows of the weight in `dtype`. ids [...] int64 -> [..., width]
  at::Tensor embed(const at::Tensor& ids, at::ScalarType dtype) const;
  // RMSNorm over the last dimension, computed in float32. x [..., C] -> same shape and dtype.
  at::Tensor normalise(const at::Tensor& x, double epsilon) const;

  at::Tensor weight;
};
TORCH_MODULE(Umt5Weight);

// Bias of the attention logits of one layer: one learnt number for every bucket and head.
struct Umt5PositionBiasImpl : torch::nn::Module {
  Umt5PositionBiasImpl(const Umt5Config& config, const at::TensorOptions& options);
  // buckets [T, T] -> [H, T, T]
  at::Tensor forward(const at::Tensor& buckets, at::ScalarType dtype) const;

  Umt5Weight embedding{nullptr};
};
TORCH_MODULE(Umt5PositionBias);

// Self-attention. The logits are not scaled by 1/√D.
struct Umt5AttentionImpl : torch::nn::Module {
  Umt5AttentionImpl(const Umt5Config& config, const at::TensorOptions& options);
  // x [B, T, C], position_bias [H, T, T], hidden_keys [B, 1, 1, T] bool -> [B, T, C]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& position_bias,
                     const at::Tensor& hidden_keys) const;

  int64_t num_heads;
  Umt5Weight q{nullptr}, k{nullptr}, v{nullptr}, o{nullptr};
};
TORCH_MODULE(Umt5Attention);

// fc2(gelu(gate(x)) * fc1(x))
struct Umt5FeedForwardImpl : torch::nn::Module {
  Umt5FeedForwardImpl(const Umt5Config& config, const at::TensorOptions& options);
  // x [B, T, C] -> [B, T, C]
  at::Tensor forward(const at::Tensor& x) const;

  torch::nn::ModuleList gate;  // a list of one, for the checkpoint's name gate.0.weight
  Umt5Weight fc1{nullptr}, fc2{nullptr};
};
TORCH_MODULE(Umt5FeedForward);

struct Umt5BlockImpl : torch::nn::Module {
  Umt5BlockImpl(const Umt5Config& config, const at::TensorOptions& options);
  // x [B, T, C], buckets [T, T], hidden_keys [B, 1, 1, T] bool -> [B, T, C]
  at::Tensor forward(const at::Tensor& x, const at::Tensor& buckets,
                     const at::Tensor& hidden_keys) const;

  double epsilon;
  Umt5Weight norm1{nullptr}, norm2{nullptr};
  Umt5Attention attn{nullptr};
  Umt5PositionBias pos_embedding{nullptr};
  Umt5FeedForward ffn{nullptr};
};
TORCH_MODULE(Umt5Block);

// The encoder; differentiable. Source: Wan2.1 wan/modules/t5.py:T5Encoder (shared_pos off).
struct Umt5EncoderImpl : torch::nn::Module {
  // Creates parameters with `options` (dtype, device). Their values are undefined until they are
  // loaded or drawn by reset_parameters(). Throws InputError as Umt5Config::check() does.
  explicit Umt5EncoderImpl(const Umt5Config& config, const at::TensorOptions& options = {});

  // ids [B, T] int64 in [0, vocab_size), mask [B, T] int64: ones, then zeros for padding
  //   -> [B, T, d_model] in the compute dtype; rows where the mask is zero are zero.
  at::Tensor forward(const at::Tensor& ids, const at::Tensor& mask) const;

  // Sets the dtype of the residual stream and so of every layer. The default is the parameters'
  // dtype.
  void set_compute_dtype(at::ScalarType dtype) { compute_dtype_ = dtype; }

  // Draws all weights as T5 does, normal with these standard deviations:
  //   token embedding 1
  //   q (C·D)^-1/2, which makes up for the missing scale of the logits
  //   k, v, position bias, gate and fc1 C^-1/2
  //   o (H·D)^-1/2, fc2 d_ff^-1/2
  // Norms are 1. `generator` is a CPU generator, so that the values do not depend on the device of
  // the parameters.
  // Source: transformers models/umt5/modeling_umt5.py:UMT5PreTrainedModel._init_weights.
  void reset_parameters(at::Generator generator);

  const Umt5Config& config() const { return config_; }

  Umt5Weight token_embedding{nullptr};
  torch::nn::ModuleList blocks;
  Umt5Weight norm{nullptr};

 private:
  Umt5Config config_;
  std::optional<at::ScalarType> compute_dtype_;
};
TORCH_MODULE(Umt5Encoder);

}  // namespace ospnext
