#include "models/transformer_layers.h"

#include "kernels/attention.h"
#include "kernels/modulate.h"
#include "kernels/norm.h"
#include "parallel/ring_attention.h"
#include "parallel/ulysses.h"
#include "quant/hif8_attention.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

// Zeros [B] float32, in which a kernel accumulates the amax of samples; undefined if not `wanted`.
at::Tensor amax_if(bool wanted, const at::Tensor& x) {
  return wanted ? at::zeros({x.size(0)}, x.options().dtype(at::kFloat)) : at::Tensor();
}

// layer_norm_modulate(), with amax if `wanted`.
Measured modulated(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                   double eps, bool wanted) {
  const at::Tensor amax = amax_if(wanted, x);
  return {layer_norm_modulate(x, shift, scale, eps, amax), amax};
}

// Whether queries and keys become operands of FP8 tensor cores, which need their amax.
bool heads_on_fp8(const Numerics& numerics) {
  return numerics.hif8.attention && numerics.hif8.tensor_cores();
}

// The n vectors of a modulation, [B, 1, C] each, or [B, L, C] if `time` has a row for each frame.
// table [1, n, C], time [B, n, C] or [B, F, n, C], frame [L] int64.
std::vector<at::Tensor> vectors_of(const at::Tensor& table, const at::Tensor& time,
                                   const at::Tensor& frame) {
  if (time.dim() == 3) {
    return (table + time).chunk(table.size(1), 1);  // n x [B, 1, C]
  }
  std::vector<at::Tensor> vectors = (table + time).unbind(2);  // n x [B, F, C]
  for (at::Tensor& one : vectors) {
    one = one.index_select(1, frame);  // [B, L, C]
  }
  return vectors;
}

}  // namespace

MlpImpl::MlpImpl(int64_t in, int64_t hidden, int64_t out, Activation activation,
                 at::TensorOptions options)
    : first(register_module("0", Linear(in, hidden, options))),
      second(register_module("2", Linear(hidden, out, options))),
      activation(activation) {}

at::Tensor MlpImpl::forward(const Measured& in, const Execution& run, const Residual& residual,
                            const ProcessGroup& ranks) const {
  const Numerics& numerics = run.numerics;
  const LinearInput input = first->prepare(joined(ranks, in, *first), numerics);
  if (activation == Activation::kSilu) {
    return (*second)(at::silu(first->forward(input, numerics)), numerics, residual);
  }
  if (second->on_fp8(numerics) && !second->is_adapted(numerics)) {  // the GELU is never stored
    const at::Tensor hidden =
        first->forward(input, numerics, {.overwrite = run.overwrite});  // [B, L, hidden]
    const Measured measured{hidden, hif8::amax_of_samples(hidden, hif8::Of::kGelu)};
    const LinearInput of_gelu{
        hidden, hif8::round_input(hidden, numerics.hif8.amax_to, numerics.hif8.products,
                                  joined_amax(ranks, {measured})[0], hif8::Of::kGelu)};
    return second->forward(of_gelu, numerics, residual);
  }
  const at::Tensor hidden = first->forward_gelu(input, run);  // [B, L, hidden]
  return (*second)(joined(ranks, hidden, *second), numerics, residual);
}

TimeProjectionImpl::TimeProjectionImpl(int64_t dim, at::TensorOptions options)
    : linear(register_module("1", Linear(dim, 6 * dim, options))) {}

at::Tensor TimeProjectionImpl::forward(const at::Tensor& x, const Numerics& numerics) const {
  return (*linear)(at::silu(x), numerics).unflatten(-1, {6, -1});  // [..., 6, C]
}

PatchEmbeddingImpl::PatchEmbeddingImpl(int64_t in_dim, int64_t dim, at::TensorOptions options)
    : weight(register_parameter("weight",
                                at::empty({dim, in_dim, 1, kPatchRows, kPatchColumns}, options))),
      bias(register_parameter("bias", at::empty({dim}, options))) {}

at::Tensor PatchEmbeddingImpl::forward(const at::Tensor& patches) const {
  const auto dtype = patches.scalar_type();
  // the weight as a matrix [C, in_dim·2·2]
  return at::linear(patches, weight.flatten(1).to(dtype), bias.to(dtype));  // [B, L, C]
}

RmsNormImpl::RmsNormImpl(int64_t dim, double eps, at::TensorOptions options)
    : weight(register_parameter("weight", at::empty({dim}, options.dtype(at::kFloat)))), eps(eps) {}

at::Tensor RmsNormImpl::forward(const at::Tensor& x, const at::Tensor& amax) const {
  return rms_norm(x, weight, eps, amax);
}

at::Tensor RmsNormImpl::forward_rotate(const at::Tensor& x, const at::Tensor& rotation,
                                       const at::Tensor& amax) const {
  return rms_norm_rotate(x, weight, rotation, eps, amax);
}

LayerNormImpl::LayerNormImpl(int64_t dim, double eps, at::TensorOptions options)
    : weight(register_parameter("weight", at::empty({dim}, options.dtype(at::kFloat)))),
      bias(register_parameter("bias", at::empty({dim}, options.dtype(at::kFloat)))),
      eps(eps) {}

at::Tensor LayerNormImpl::forward(const at::Tensor& x) const {
  return layer_norm(x, weight, bias, eps);
}

AttentionImpl::AttentionImpl(const TransformerConfig& config, at::TensorOptions options)
    : q(register_module("q", Linear(config.dim, config.dim, options))),
      k(register_module("k", Linear(config.dim, config.dim, options))),
      v(register_module("v", Linear(config.dim, config.dim, options))),
      o(register_module("o", Linear(config.dim, config.dim, options))),
      norm_q(register_module("norm_q", RmsNorm(config.dim, config.eps, options))),
      norm_k(register_module("norm_k", RmsNorm(config.dim, config.eps, options))),
      num_heads(config.num_heads) {}

at::Tensor AttentionImpl::attend_self(const Measured& x, const Placement& place, Pattern pattern,
                                      const Execution& run, const Residual& residual) const {
  const auto [q_x, k_x, v_x] = project(joined(place.ranks, x, *q), run, q, k, v);
  const auto turned = [&](const RmsNorm& norm, const at::Tensor& y) -> Measured {
    const at::Tensor amax = amax_if(heads_on_fp8(run.numerics), y);
    // b l (h d) -> b l h d
    return {norm->forward_rotate(y, place.rotation, amax).unflatten(2, {num_heads, -1}),
            amax};  // [B, L, H, D]
  };
  const Measured own_q = turned(norm_q, q_x), own_k = turned(norm_k, k_x);
  const AttentionShards& shards = place.shards(pattern);
  // With several Ulysses ranks: more tokens, fewer heads.
  const auto [query, key, value] =
      tokens_to_heads({own_q.x, own_k.x, v_x.unflatten(2, {num_heads, -1})}, shards.tokens,
                      shards.ranks.ulysses);  // 3 x [B, L, H, D]
  const Measured out =
      attend({query, own_q.amax}, {key, own_k.amax}, value, shards, {}, place.ranks, run);
  const at::Tensor own =
      heads_to_tokens(out.x, shards.tokens, shards.ranks.ulysses);  // [B, L, H, D]
  return (*o)(joined(place.ranks, {own.flatten(2), out.amax}, *o), run.numerics,
              residual);  // [B, L, C]
}

at::Tensor AttentionImpl::attend_text(const at::Tensor& x, const TextKeys& text,
                                      const Execution& run, const Residual& residual,
                                      const ProcessGroup& ranks) const {
  const at::Tensor amax = amax_if(heads_on_fp8(run.numerics), x);
  const at::Tensor q_x = std::get<0>(project(joined(ranks, x, *q), run, q));  // [B, L, C]
  const Measured query{norm_q->forward(q_x, amax).unflatten(2, {num_heads, -1}),
                       amax};  // [B, L, H, D]
  const Measured out = attend(query, text.key, text.value, {}, text.log_weight, ranks, run);
  return (*o)(joined(ranks, {out.x.flatten(2), out.amax}, *o), run.numerics,
              residual);  // [B, L, C]
}

TextKeys AttentionImpl::text_keys(const TextRows& text, const Execution& run) const {
  const auto heads = [&](const at::Tensor& y) {
    return y.unflatten(2, {num_heads, -1});  // [B, T, H, D]
  };
  const auto [k_text, v_text] = project(text.rows, run, k, v);
  return {heads(norm_k->forward(k_text)), heads(v_text), text.log_weight};
}

Measured AttentionImpl::attend(const Measured& query, const Measured& key, const at::Tensor& value,
                               const AttentionShards& shards, const at::Tensor& log_weight,
                               const ProcessGroup& ranks, const Execution& run) const {
  const Hif8Rounding& rounding = run.numerics.hif8;
  const bool is_ring = shards.ranks.ring.size() > 1;
  const bool is_whole = shards.segments.empty() || shards.segments.front().size() == 1;
  const auto lengths = is_whole ? std::vector<int64_t>() : shards.segments.front();
  const auto ring = [&](const hif8::Heads& heads, KeptAttention* kept) {
    return ring_attention(heads.query, heads.key, heads.value, shards.segments, shards.ranks.ring,
                          kept);
  };
  const bool is_self = !shards.segments.empty();
  hif8::Heads heads{query.x, key.x, value};
  if (!rounding.attention) {
    return is_ring ? ring(heads, run.attention)
           : is_self && run.attention != nullptr
               ? attention_keeping(query.x, key.x, value, lengths, *run.attention)
           : lengths.empty() ? attention(query.x, key.x, value, log_weight)
                             : segmented_attention(query.x, key.x, value, lengths);
  }
  const auto amax = joined_amax(ranks, {query, key, value});  // 3 x [B]
  heads.query_amax = amax[0], heads.key_amax = amax[1], heads.value_amax = amax[2];
  if (is_ring) {  // ring attention has no FP8 path: it gets the code values, divided by the scales
    return ring(hif8::rounded(heads, rounding.amax_to, rounding.products), /*kept=*/nullptr);
  }
  const at::Tensor of_output = amax_if(rounding.tensor_cores() && o->on_fp8(run.numerics), query.x);
  return {
      hif8::attention(heads, rounding.amax_to, rounding.products, lengths, log_weight, of_output),
      of_output};
}

TransformerBlockImpl::TransformerBlockImpl(const TransformerConfig& config,
                                           at::TensorOptions options)
    : modulation(register_parameter("modulation",
                                    at::empty({1, 6, config.dim}, options.dtype(at::kFloat)))),
      self_attn(register_module("self_attn", Attention(config, options))),
      cross_attn(register_module("cross_attn", Attention(config, options))),
      norm3(register_module("norm3", LayerNorm(config.dim, config.eps, options))),
      ffn(register_module(
          "ffn", Mlp(config.dim, config.ffn_dim, config.dim, Activation::kGeluTanh, options))),
      eps(config.eps) {}

at::Tensor TransformerBlockImpl::forward(at::Tensor x, const at::Tensor& time, const TextKeys& text,
                                         const Placement& place, Pattern pattern,
                                         const Execution& run) const {
  const auto m = vectors_of(modulation, time, place.frame);  // 6 x [B, 1 or L, C]
  Span part(run.spans, SpanKind::kPart, "self-attention");
  auto y = modulated(x, /*shift=*/m[0], /*scale=*/m[1], eps, self_attn->q->on_fp8(run.numerics));
  x = self_attn->attend_self(y, place, pattern, run, {x, /*gate=*/m[2], run.overwrite});
  part.next("text attention");
  const TextKeys keys =
      text.key.defined() ? text : cross_attn->text_keys({text.words, text.log_weight}, run);
  x = cross_attn->attend_text(norm3->forward(x), keys, run, {x, {}, run.overwrite}, place.ranks);
  part.next("feed-forward");
  y = modulated(x, /*shift=*/m[3], /*scale=*/m[4], eps, ffn->first->on_fp8(run.numerics));
  return ffn->forward(y, run, {x, /*gate=*/m[5], run.overwrite}, place.ranks);
}

HeadImpl::HeadImpl(const TransformerConfig& config, at::TensorOptions options)
    : modulation(register_parameter("modulation",
                                    at::empty({1, 2, config.dim}, options.dtype(at::kFloat)))),
      head(register_module("head", Linear(config.dim, config.out_dim * kPatchRows * kPatchColumns,
                                          options.dtype(at::kFloat)))),
      eps(config.eps) {}

at::Tensor HeadImpl::forward(const at::Tensor& x, const at::Tensor& time, const at::Tensor& frame,
                             Epilogue epilogue) const {
  const auto m = vectors_of(modulation, time.unsqueeze(-2), frame);  // 2 x [B, 1 or L, C]
  const at::Tensor y = layer_norm_modulate(x.to(at::kFloat), /*shift=*/m[0], /*scale=*/m[1], eps);
  return (*head)(y, {.dtype = at::kFloat, .epilogue = epilogue});  // [B, L, 2·2·out_dim]
}

at::Tensor time_sinusoid(const at::Tensor& timestep, int64_t freq_dim) {
  constexpr double kLongestPeriod = 10000;
  const int64_t half = freq_dim / 2;
  const auto exponents = at::arange(half, timestep.options().dtype(at::kDouble)) / half;  // [half]
  const auto angles =
      timestep.to(at::kDouble).unsqueeze(1) * at::pow(kLongestPeriod, -exponents);  // [n, half]
  return at::cat({angles.cos(), angles.sin()}, 1).to(at::kFloat);                   // [n, freq_dim]
}

}  // namespace ospnext
