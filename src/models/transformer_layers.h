// The layers of the transformer; parameters are named as in Wan's checkpoints.
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

// An activation [B, ...], and the largest magnitude of each sample [B] where the kernel that made it took it along
// (kernels/amax.h), undefined elsewhere.
struct Measured {
  // NOLINTNEXTLINE(google-explicit-constructor): a plain tensor is one that nobody measured.
  Measured(at::Tensor x, at::Tensor amax = {}) : x(std::move(x)), amax(std::move(amax)) {}
  at::Tensor x, amax;
};

// x Wᵀ + b in x's dtype; weight and bias are cast to it when theirs differs. New parameters are not
// initialised: they are loaded, or drawn by TransformerImpl::reset_parameters(). With `hif8` input and
// weight are HiFloat8 codes (quant/hif8_linear.h), and `weight` holds what its codes are worth, not divided
// by their scale, or those values times 2^4 as float8_e4m3fn for FP8 tensor cores; round_to_hif8()
// (transformer_hif8.h) sets it.
struct LinearImpl : torch::nn::Module {
  LinearImpl(int64_t in, int64_t out, at::TensorOptions options);
  // x [..., in] -> [..., out], added to `residual` if that has an x
  at::Tensor forward(const Measured& in, const Residual& residual = {});
  // The same when `amax` [B] is known to be that of all ranks' parts of x's samples; undefined: x is whole.
  at::Tensor multiply(const at::Tensor& x, const at::Tensor& amax, const Residual& residual = {});
  // Whether products are those of FP8 tensor cores, which ask for the input's largest magnitudes.
  bool on_fp8() const { return weight.scalar_type() == at::kFloat8_e4m3fn; }
  at::Tensor weight, bias;  // [out, in], [out]
  struct Hif8 {
    float weight_scale;
    double input_amax;        // what each sample's input is scaled to
    ProcessGroup ranks = {};  // that hold parts of its samples
  };
  std::optional<Hif8> hif8;
};
TORCH_MODULE(Linear);

enum class Activation { kGeluTanh, kSilu };

// Linear, activation, linear: children "0" and "2".
struct MlpImpl : torch::nn::Module {
  MlpImpl(int64_t in, int64_t hidden, int64_t out, Activation activation,
          at::TensorOptions options);
  // [..., in] -> [..., out], added to `residual` if that has an x
  at::Tensor forward(const Measured& in, const Residual& residual = {});
  Linear first, second;
  Activation activation;
};
TORCH_MODULE(Mlp);

// Activation, linear: child "1". [B, C] -> [B, 6, C], the modulation of all blocks.
struct TimeProjectionImpl : torch::nn::Module {
  TimeProjectionImpl(int64_t dim, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& x);
  Linear linear;
};
TORCH_MODULE(TimeProjection);

// One linear layer on flattened patches, kept in the shape of Wan's convolution.
struct PatchEmbeddingImpl : torch::nn::Module {
  PatchEmbeddingImpl(int64_t in_dim, int64_t dim, at::TensorOptions options);
  at::Tensor forward(const at::Tensor& patches);  // [B, L, in_dim·2·2] -> [B, L, C]
  at::Tensor weight, bias;                        // [C, in_dim, 1, 2, 2], [C]
};
TORCH_MODULE(PatchEmbedding);

struct RmsNormImpl : torch::nn::Module {
  RmsNormImpl(int64_t dim, double eps, at::TensorOptions options);
  // [..., C] -> [..., C]. `amax`, here and below: kernels/amax.h.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& amax = {});
  // And turns the pairs of each head by rotation [L, D/2] complex64. [B, L, C] -> [B, L, C]
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

// How products of HiFloat8 codes are computed: simulated, or on FP8 tensor cores, where those of attention's weights and
// values are either left to bf16 (values are exact there) or, the weights in E4M3, made in FP8 too.
enum class Hif8Products { kSimulated, kTensorCores, kTensorCoresP8 };

// Where a block's tokens lie, how far the heads of this rank's are turned, and who attends to what.
struct Placement {
  Layout layout;
  at::Tensor rotation;  // [L, D/2] complex64, in the layout's order
  AttentionShards within, across;
  const AttentionShards& shards(Pattern pattern) const {
    return pattern == Pattern::kFull ? across : within;
  }
};

// Multi-head attention; q and k are normed over all heads together, before the split into heads.
struct AttentionImpl : torch::nn::Module {
  AttentionImpl(const TransformerConfig& config, at::TensorOptions options);
  // Among video tokens, with rotary positions. x [B, L, C] -> [B, L, C]; tokens lie as `place` says and
  // see their segment of the layout, or everything when `pattern` is full.
  at::Tensor attend_self(const Measured& x, const Placement& place, Pattern pattern,
                         const Residual& residual);
  // From video tokens to text. x [B, L, C], text of text_keys() -> [B, L, C].
  at::Tensor attend_text(const at::Tensor& x, const TextKeys& text, const Residual& residual = {});
  // rows [B, T, C]
  TextKeys text_keys(const TextRows& text);
  Linear q, k, v, o;
  RmsNorm norm_q, norm_k;
  int64_t num_heads;
  struct Hif8 {
    double amax;  // what queries, keys and values are scaled to, to be rounded to HiFloat8
    Hif8Products products;
    ProcessGroup ranks = {};  // that hold parts of the samples
  };
  std::optional<Hif8> hif8;
};
TORCH_MODULE(Attention);

// Self-attention, attention to the text and feed-forward, each with its residual.
struct TransformerBlockImpl : torch::nn::Module {
  TransformerBlockImpl(const TransformerConfig& config, at::TensorOptions options);
  // x [B, L, C], time [B, 6, C] float32, text of cross_attn->text_keys() -> [B, L, C].
  // Its parts go to `spans`. Source: Wan2.1 wan/modules/model.py:WanAttentionBlock.
  at::Tensor forward(at::Tensor x, const at::Tensor& time, const TextKeys& text,
                     const Placement& place, Pattern pattern, Spans* spans = nullptr);
  at::Tensor modulation;  // [1, 6, C] float32: shift, scale, gate of self-attention, then of ffn
  Attention self_attn, cross_attn;
  LayerNorm norm3;  // before cross_attn; the two norms without weights have no module
  Mlp ffn;
  double eps;
};
TORCH_MODULE(TransformerBlock);

// Last norm and projection to the patches of the velocity, all in float32.
struct HeadImpl : torch::nn::Module {
  HeadImpl(const TransformerConfig& config, at::TensorOptions options);
  // x [B, L, C], time [B, C] float32 -> [B, L, 2·2·out_dim] float32
  at::Tensor forward(const at::Tensor& x, const at::Tensor& time);
  at::Tensor modulation;  // [1, 2, C] float32: shift, scale
  Linear head;
  double eps;
};
TORCH_MODULE(Head);

// [B] -> [B, freq_dim] float32: cosines, then sines of t·10000^(-i/(freq_dim/2)), made in fp64.
// Source: Wan2.1 wan/modules/model.py:sinusoidal_embedding_1d.
at::Tensor time_sinusoid(const at::Tensor& timestep, int64_t freq_dim);

}  // namespace ospnext
