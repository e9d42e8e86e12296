// The layers of the transformer. Parameters are named as in Wan's checkpoints.
// Letters: B batch, L video tokens (of this rank, when several ranks share a video), T text tokens,
// C width, H heads, D head width.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "core/torch/spans.h"
#include "core/torch/torch.h"
#include "kernels/residual.h"
#include "models/layout.h"
#include "models/transformer_config.h"
#include "models/transformer_text.h"
#include "parallel/sequence_ranks.h"

namespace ospnext {

// An activation x [B, ...] with the largest magnitude of each sample, amax [B] float32, if the
// kernel that made x computed it on the way (kernels/amax.h); else amax is undefined.
struct Measured {
  // NOLINTNEXTLINE(google-explicit-constructor): a plain tensor is an activation without amax.
  Measured(at::Tensor x, at::Tensor amax = {}) : x(std::move(x)), amax(std::move(amax)) {}
  at::Tensor x, amax;
};

// x Wᵀ + b in x's dtype; weight and bias are cast to it if needed. New parameters are not
// initialised: load them or call TransformerImpl::reset_parameters().
//
// With `hif8`, input and weight are rounded to HiFloat8 codes (quant/hif8_linear.h). `weight` then
// holds the values of its codes, not divided by their scale; or, for FP8 tensor cores, these values
// times 2^4 as float8_e4m3fn. round_to_hif8() (transformer_hif8.h) sets this up.
struct LinearImpl : torch::nn::Module {
  LinearImpl(int64_t in, int64_t out, at::TensorOptions options);
  // x [..., in] -> [..., out], added to `residual` if that has an x
  at::Tensor forward(const Measured& in, const Residual& residual = {});
  // The same without an exchange. `amax` [B] is the amax of the whole samples, over all ranks that
  // hold parts of them; undefined means that x holds whole samples.
  at::Tensor multiply(const at::Tensor& x, const at::Tensor& amax, const Residual& residual = {});
  // Whether the product runs on FP8 tensor cores. It then needs the amax of its input.
  bool on_fp8() const { return weight.scalar_type() == at::kFloat8_e4m3fn; }
  at::Tensor weight, bias;  // [out, in], [out]
  struct Hif8 {
    float weight_scale;
    double input_amax;        // each sample of the input is scaled to this amax
    ProcessGroup ranks = {};  // the ranks that hold parts of the samples
  };
  std::optional<Hif8> hif8;
};
TORCH_MODULE(Linear);

enum class Activation { kGeluTanh, kSilu };

// Linear, activation, linear. The linears are the children "0" and "2".
struct MlpImpl : torch::nn::Module {
  MlpImpl(int64_t in, int64_t hidden, int64_t out, Activation activation,
          at::TensorOptions options);
  // [..., in] -> [..., out], added to `residual` if that has an x
  at::Tensor forward(const Measured& in, const Residual& residual = {});
  Linear first, second;
  Activation activation;
};
TORCH_MODULE(Mlp);

// SiLU, then a linear, the child "1". x [B, C] -> [B, 6, C], the modulation shared by all blocks.
struct TimeProjectionImpl : torch::nn::Module {
  TimeProjectionImpl(int64_t dim, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& x);
  Linear linear;
};
TORCH_MODULE(TimeProjection);

// One linear layer on flattened patches. Its weight has the shape of Wan's convolution.
struct PatchEmbeddingImpl : torch::nn::Module {
  PatchEmbeddingImpl(int64_t in_dim, int64_t dim, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& patches);  // [B, L, in_dim·2·2] -> [B, L, C]
  at::Tensor weight, bias;                        // [C, in_dim, 1, 2, 2], [C]
};
TORCH_MODULE(PatchEmbedding);

struct RmsNormImpl : torch::nn::Module {
  RmsNormImpl(int64_t dim, double eps, at::TensorOptions options);
  // x [..., C] -> [..., C]. `amax` [B], if defined, is raised to the amax of the result
  // (kernels/amax.h).
  at::Tensor forward(const at::Tensor& x, const at::Tensor& amax = {});
  // Norm, then RoPE: rotates the channel pairs of each head by rotation [L, D/2] complex64.
  // x [B, L, C] -> [B, L, C]
  at::Tensor forward_rotate(const at::Tensor& x, const at::Tensor& rotation,
                            const at::Tensor& amax = {});
  at::Tensor weight;  // [C] float32
  double eps;
};
TORCH_MODULE(RmsNorm);

struct LayerNormImpl : torch::nn::Module {
  LayerNormImpl(int64_t dim, double eps, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& x);  // [..., C] -> [..., C]
  at::Tensor weight, bias;                  // [C] float32
  double eps;
};
TORCH_MODULE(LayerNorm);

// How products of HiFloat8 codes are computed.
enum class Hif8Products {
  kSimulated,     // in the compute dtype
  kTensorCores,   // on FP8 tensor cores, except attention weights times values: bf16, exact values
  kTensorCoresP8  // all on FP8 tensor cores; attention weights are rounded to E4M3
};

// The tokens of a block in one layout.
struct Placement {
  Layout layout;
  at::Tensor rotation;  // [L, D/2] complex64: RoPE of this rank's tokens, in layout order
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
                         const Residual& residual);
  // Cross-attention of video tokens to text. x [B, L, C], text from text_keys() -> [B, L, C].
  at::Tensor attend_text(const at::Tensor& x, const TextKeys& text, const Residual& residual = {});
  // Projects text to keys and values. text.rows [B, T, C] -> [B, T, H, D] each.
  TextKeys text_keys(const TextRows& text);
  Linear q, k, v, o;
  RmsNorm norm_q, norm_k;
  int64_t num_heads;
  // With `hif8`, queries, keys and values are rounded to HiFloat8.
  struct Hif8 {
    double amax;  // each sample is scaled to this amax before it is rounded
    Hif8Products products;
    ProcessGroup ranks = {};  // the ranks that hold parts of the samples
  };
  std::optional<Hif8> hif8;
};
TORCH_MODULE(Attention);

// Self-attention, attention to the text and feed-forward, each added to the residual stream.
struct TransformerBlockImpl : torch::nn::Module {
  TransformerBlockImpl(const TransformerConfig& config, at::TensorOptions options);
  // x [B, L, C], time [B, 6, C] float32, text from cross_attn->text_keys() -> [B, L, C].
  // The three parts are recorded in `spans`.
  // Source: Wan2.1 wan/modules/model.py:WanAttentionBlock.
  at::Tensor forward(at::Tensor x, const at::Tensor& time, const TextKeys& text,
                     const Placement& place, Pattern pattern, Spans* spans = nullptr);
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
  // x [B, L, C], time [B, C] float32 -> [B, L, 2·2·out_dim] float32
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time);
  at::Tensor modulation;  // [1, 2, C] float32: shift, scale
  Linear head;
  double eps;
};
TORCH_MODULE(Head);

// timestep t [B] -> [B, freq_dim] float32: first the cosines, then the sines of the angles
// t·10000^(-i/(freq_dim/2)), i = 0 to freq_dim/2 - 1. Computed in fp64.
// Source: Wan2.1 wan/modules/model.py:sinusoidal_embedding_1d.
at::Tensor time_sinusoid(const at::Tensor& timestep, int64_t freq_dim);

}  // namespace ospnext
