// The layers of the transformer. Parameters are named as in Wan's checkpoints.
// Letters: B batch, L video tokens (of this rank, when several ranks share a video), T text tokens,
// C width, H heads, D head width.
#pragma once

#include <cstdint>

#include "core/torch/torch.h"
#include "models/execution.h"
#include "models/layout.h"
#include "models/transformer_config.h"
#include "models/transformer_linear.h"
#include "models/transformer_text.h"
#include "parallel/sequence_ranks.h"

namespace ospnext {

// Linear, activation, linear. The linears are the children "0" and "2".
struct MlpImpl : torch::nn::Module {
  MlpImpl(int64_t in, int64_t hidden, int64_t out, Activation activation,
          at::TensorOptions options);
  // [..., in] -> [..., out], added to `residual` if that has an x. `ranks` hold parts of the
  // samples.
  at::Tensor forward(const Measured& in, const Execution& run, const Residual& residual = {},
                     const ProcessGroup& ranks = {}) const;
  Linear first, second;
  Activation activation;
};
TORCH_MODULE(Mlp);

// SiLU, then a linear, the child "1". x [..., C] -> [..., 6, C], the modulation shared by all
// blocks.
struct TimeProjectionImpl : torch::nn::Module {
  TimeProjectionImpl(int64_t dim, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& x, const Numerics& numerics) const;
  Linear linear;
};
TORCH_MODULE(TimeProjection);

// One linear layer on flattened patches. Its weight has the shape of Wan's convolution.
struct PatchEmbeddingImpl : torch::nn::Module {
  PatchEmbeddingImpl(int64_t in_dim, int64_t dim, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& patches) const;  // [B, L, in_dim·2·2] -> [B, L, C]
  at::Tensor weight, bias;                              // [C, in_dim, 1, 2, 2], [C]
};
TORCH_MODULE(PatchEmbedding);

struct RmsNormImpl : torch::nn::Module {
  RmsNormImpl(int64_t dim, double eps, at::TensorOptions options);
  // x [..., C] -> [..., C]. `amax` [B], if defined, is raised to the amax of the result
  // (kernels/amax.h).
  at::Tensor forward(const at::Tensor& x, const at::Tensor& amax = {}) const;
  // Norm, then RoPE: rotates the channel pairs of each head by rotation [L, D/2] complex64.
  // x [B, L, C] -> [B, L, C]
  at::Tensor forward_rotate(const at::Tensor& x, const at::Tensor& rotation,
                            const at::Tensor& amax = {}) const;
  at::Tensor weight;  // [C] float32
  double eps;
};
TORCH_MODULE(RmsNorm);

struct LayerNormImpl : torch::nn::Module {
  LayerNormImpl(int64_t dim, double eps, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& x) const;  // [..., C] -> [..., C]
  at::Tensor weight, bias;                        // [C] float32
  double eps;
};
TORCH_MODULE(LayerNorm);

// The tokens of a block in one layout.
struct Placement {
  Layout layout;
  at::Tensor rotation;  // [L, D/2] complex64: RoPE of this rank's tokens, in layout order
  at::Tensor frame;     // [L] int64: the latent frame of each of these tokens, counted from 0
  ProcessGroup ranks;   // those that hold parts of the same samples
  AttentionShards within, across;  // for sparse and for full attention
  const AttentionShards& shards(Pattern pattern) const {
    return pattern == Pattern::kFull ? across : within;
  }
};

// Multi-head attention. q and k are normed over the whole width C, before the split into heads.
struct AttentionImpl : torch::nn::Module {
  AttentionImpl(const TransformerConfig& config, at::TensorOptions options);
  // Self-attention of video tokens with RoPE. x [B, L, C], tokens in place.layout -> [B, L, C].
  // A token attends to its segment of the layout, or to all tokens when `pattern` is kFull.
  at::Tensor attend_self(const Measured& x, const Placement& place, Pattern pattern,
                         const Execution& run, const Residual& residual) const;
  // Cross-attention of video tokens to text. x [B, L, C], text from text_keys() -> [B, L, C].
  // `ranks` hold parts of the samples of x.
  at::Tensor attend_text(const at::Tensor& x, const TextKeys& text, const Execution& run,
                         const Residual& residual = {}, const ProcessGroup& ranks = {}) const;
  // Projects text to keys and values. text.rows [B, T, C] -> [B, T, H, D] each.
  TextKeys text_keys(const TextRows& text, const Execution& run) const;
  Linear q, k, v, o;
  RmsNorm norm_q, norm_k;
  int64_t num_heads;

 private:
  // Attention inside the segments of `shards`, or over all keys if it has no segments. query, key,
  // value [B, L, H, D] -> [B, L, H, D], rounded to HiFloat8 first where `run` says so. The result
  // comes with its amax if `o` needs it and the attention kernel can compute it.
  Measured attend(const Measured& query, const Measured& key, const at::Tensor& value,
                  const AttentionShards& shards, const at::Tensor& log_weight,
                  const ProcessGroup& ranks, const Execution& run) const;
};
TORCH_MODULE(Attention);

// Self-attention, attention to the text and feed-forward, each added to the residual stream.
struct TransformerBlockImpl : torch::nn::Module {
  TransformerBlockImpl(const TransformerConfig& config, at::TensorOptions options);
  // x [B, L, C], time [B, 6, C] float32, or [B, F, 6, C] for each of F frames, text from
  // cross_attn->text_keys() -> [B, L, C]. The three parts are recorded in run.spans.
  // Source: Wan2.1 wan/modules/model.py:WanAttentionBlock.
  at::Tensor forward(at::Tensor x, const at::Tensor& time, const TextKeys& text,
                     const Placement& place, Pattern pattern, const Execution& run) const;
  at::Tensor modulation;  // [1, 6, C] float32: shift, scale, gate of self-attention, then of ffn
  Attention self_attn, cross_attn;
  LayerNorm norm3;  // before cross_attn; the other two norms have no weights, hence no module
  Mlp ffn;
  double eps;
};
TORCH_MODULE(TransformerBlock);

// The last norm and the projection to patches of the velocity, all in float32.
struct HeadImpl : torch::nn::Module {
  HeadImpl(const TransformerConfig& config, at::TensorOptions options);
  // x [B, L, C], time [B, C] float32, or [B, F, C] for each of F frames; frame [L] int64: that of
  // each token -> [B, L, 2·2·out_dim] float32
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time, const at::Tensor& frame,
                     Epilogue epilogue) const;
  at::Tensor modulation;  // [1, 2, C] float32: shift, scale
  Linear head;
  double eps;
};
TORCH_MODULE(Head);

// timestep t [n] -> [n, freq_dim] float32: first the cosines, then the sines of the angles
// t·10000^(-i/(freq_dim/2)), i = 0 to freq_dim/2 - 1. Computed in fp64.
// Source: Wan2.1 wan/modules/model.py:sinusoidal_embedding_1d.
at::Tensor time_sinusoid(const at::Tensor& timestep, int64_t freq_dim);

}  // namespace ospnext
