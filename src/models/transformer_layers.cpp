#include "models/transformer_layers.h"

#include "kernels/attention.h"
#include "kernels/modulate.h"
#include "kernels/norm.h"
#include "parallel/ring_attention.h"
#include "parallel/ulysses.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

// Zeros [B] float32, in which a kernel accumulates the amax of samples; undefined if not `wanted`.
at::Tensor amax_if(bool wanted, const at::Tensor& x) {
  return wanted ? at::zeros({x.size(0)}, x.options().dtype(at::kFloat)) : at::Tensor();
}

// layer_norm_modulate(), with amax if `next`, the linear that reads the result, runs on FP8.
Measured modulated(const at::Tensor& x, const at::Tensor& shift, const at::Tensor& scale,
                   double eps, const LinearImpl& next) {
  const at::Tensor amax = amax_if(next.on_fp8(), x);
  return {layer_norm_modulate(x, shift, scale, eps, amax), amax};
}

// The amax of each sample of several tensors, [B] each. With several ranks, which hold parts of the
// samples, one all-reduce takes the maxima over all ranks. With one rank, the result is the amax
// that comes with each tensor. It may be undefined: the function that needs it then computes it.
std::vector<at::Tensor> joined_amax(const ProcessGroup& ranks, const std::vector<Measured>& parts) {
  std::vector<at::Tensor> amax;
  for (const Measured& part : parts) {
    amax.push_back(part.amax.defined() || ranks.alone() ? part.amax
                                                        : hif8::amax_of_samples(part.x));
  }
  return ranks.alone() ? amax : ranks.all_max(at::stack(amax), "amax").unbind();
}

// The same for the input of one linear; undefined without HiFloat8.
at::Tensor joined_amax(const std::optional<LinearImpl::Hif8>& hif8, const Measured& part) {
  return hif8 ? joined_amax(hif8->ranks, std::vector<Measured>{part})[0] : at::Tensor();
}

// Applies several linears to one input. For FP8 tensor cores the input is rounded only once.
template <class... Linears>
std::array<at::Tensor, sizeof...(Linears)> project(const Measured& in, Linears&... linears) {
  const LinearImpl& first = *std::get<0>(std::tie(linears...));
  const at::Tensor amax = joined_amax(first.hif8, in);
  if (!first.on_fp8()) {
    return {linears->multiply(in.x, amax)...};
  }
  const hif8::Fp8Input input = hif8::fp8_input(in.x, first.hif8->input_amax, amax);
  return {hif8::fp8_linear(input, linears->weight, linears->hif8->weight_scale, linears->bias)...};
}

// Rounds heads x [B, L, H, D] to operands of FP8 tensor cores.
ScaledHeads fp8_heads(const at::Tensor& x, double amax_to, const at::Tensor& amax) {
  const hif8::Fp8Input input = hif8::fp8_input(x, amax_to, amax);
  return {input.codes, input.scale};
}

// Rounds heads x [B, L, H, D] to HiFloat8 but keeps x's dtype, which holds the code values exactly.
ScaledHeads rounded_heads(const at::Tensor& x, double amax_to, const at::Tensor& amax) {
  const at::Tensor scale = hif8::scale_of_samples(x, amax_to, amax);
  return {hif8::code_values(x, scale), scale};
}

bool heads_on_fp8(const std::optional<AttentionImpl::Hif8>& hif8) {
  return hif8 && hif8->products != Hif8Products::kSimulated;
}

// Attention inside the segments of `shards`, or over all keys if it has no segments. query, key,
// value [B, L, H, D] -> [B, L, H, D]. With `hif8`, query, key and value are rounded to HiFloat8
// first. The result comes with its amax if `next`, the linear that reads it, runs on FP8 and the
// attention kernel can compute it.
Measured attend(const std::optional<AttentionImpl::Hif8>& hif8, const Measured& query,
                const Measured& key, const at::Tensor& value, const AttentionShards& shards,
                const at::Tensor& log_weight, const LinearImpl& next) {
  const bool is_ring = shards.ranks.ring.size() > 1;
  const bool is_whole = shards.segments.empty() || shards.segments.front().size() == 1;
  const auto lengths = is_whole ? std::vector<int64_t>() : shards.segments.front();
  const auto plain = [&](const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
    return is_ring           ? ring_attention(q, k, v, shards.segments, shards.ranks.ring)
           : lengths.empty() ? attention(q, k, v, log_weight)
                             : segmented_attention(q, k, v, lengths);
  };
  if (!hif8) {
    return plain(query.x, key.x, value);
  }
  const auto amax = joined_amax(hif8->ranks, {query, key, value});  // 3 x [B]
  if (hif8->products == Hif8Products::kSimulated) {
    const auto rounded = [&](const at::Tensor& x, const at::Tensor& known) {
      return hif8::round_samples(x, hif8->amax, known);
    };
    return plain(rounded(query.x, amax[0]), rounded(key.x, amax[1]), rounded(value, amax[2]));
  }
  const bool all = hif8->products == Hif8Products::kTensorCoresP8;
  const ScaledHeads q = fp8_heads(query.x, hif8->amax, amax[0]);
  const ScaledHeads k = fp8_heads(key.x, hif8->amax, amax[1]);
  const ScaledHeads v =
      all ? fp8_heads(value, hif8->amax, amax[2]) : rounded_heads(value, hif8->amax, amax[2]);
  const auto dtype = value.scalar_type();
  if (is_ring) {  // ring attention has no FP8 path: it gets the code values, divided by the scales
    return plain(unscaled(q, dtype), unscaled(k, dtype), unscaled(v, dtype));
  }
  const at::Tensor of_output = amax_if(next.on_fp8(), query.x);
  return {fp8_attention(q, k, v, dtype, lengths, log_weight, of_output), of_output};
}

// Whether bias and GELU run in the epilogue of the matrix product. Not with a gradient, which needs
// the values before the GELU.
bool takes_fused_gelu(const LinearImpl& linear, const at::Tensor& x) {
  return x.is_cuda() && !linear.hif8 && !at::GradMode::is_enabled();
}

}  // namespace

LinearImpl::LinearImpl(int64_t in, int64_t out, at::TensorOptions options)
    : weight(register_parameter("weight", at::empty({out, in}, options))),
      bias(register_parameter("bias", at::empty({out}, options))) {}

at::Tensor LinearImpl::forward(const Measured& in, const Residual& residual) {
  return multiply(in.x, joined_amax(hif8, in), residual);
}

at::Tensor LinearImpl::multiply(const at::Tensor& x, const at::Tensor& amax,
                                const Residual& residual) {
  if (on_fp8()) {
    return hif8::fp8_linear(hif8::fp8_input(x, hif8->input_amax, amax), weight, hif8->weight_scale,
                            bias, residual);
  }
  if (hif8) {
    return add_branch(residual,
                      hif8::linear(x, weight, hif8->weight_scale, bias, hif8->input_amax, amax));
  }
  return linear(residual, x, weight.to(x.scalar_type()), bias.to(x.scalar_type()));
}

MlpImpl::MlpImpl(int64_t in, int64_t hidden, int64_t out, Activation activation,
                 at::TensorOptions options)
    : first(register_module("0", Linear(in, hidden, options))),
      second(register_module("2", Linear(hidden, out, options))),
      activation(activation) {}

at::Tensor MlpImpl::forward(const Measured& in, const Residual& residual) {
  const at::Tensor& x = in.x;
  if (activation == Activation::kGeluTanh && takes_fused_gelu(*first, x)) {
    const auto dtype = x.scalar_type();
    const at::Tensor rows = x.reshape({-1, x.size(-1)});  // [rows, in]
    const at::Tensor hidden =
        at::_addmm_activation(first->bias.to(dtype), rows, first->weight.to(dtype).t(), 1, 1,
                              /*use_gelu=*/true);  // [rows, hidden]
    return second(hidden.unflatten(0, x.sizes().slice(0, x.dim() - 1)), residual);  // [..., out]
  }
  const at::Tensor hidden = first(in);
  if (activation == Activation::kGeluTanh && second->on_fp8()) {
    const Measured measured{hidden, hif8::amax_of_samples(hidden, hif8::Of::kGelu)};
    const hif8::Fp8Input input = hif8::fp8_input_of_gelu(hidden, second->hif8->input_amax,
                                                         joined_amax(second->hif8, measured));
    return hif8::fp8_linear(input, second->weight, second->hif8->weight_scale, second->bias,
                            residual);
  }
  return second(activation == Activation::kSilu ? at::silu(hidden) : at::gelu(hidden, "tanh"),
                residual);
}

TimeProjectionImpl::TimeProjectionImpl(int64_t dim, at::TensorOptions options)
    : linear(register_module("1", Linear(dim, 6 * dim, options))) {}

at::Tensor TimeProjectionImpl::forward(const at::Tensor& x) {
  return linear(at::silu(x)).unflatten(1, {6, -1});  // [B, 6, C]
}

PatchEmbeddingImpl::PatchEmbeddingImpl(int64_t in_dim, int64_t dim, at::TensorOptions options)
    : weight(register_parameter("weight",
                                at::empty({dim, in_dim, 1, kPatchRows, kPatchColumns}, options))),
      bias(register_parameter("bias", at::empty({dim}, options))) {}

at::Tensor PatchEmbeddingImpl::forward(const at::Tensor& patches) {
  const auto dtype = patches.scalar_type();
  // the weight as a matrix [C, in_dim·2·2]
  return at::linear(patches, weight.flatten(1).to(dtype), bias.to(dtype));  // [B, L, C]
}

RmsNormImpl::RmsNormImpl(int64_t dim, double eps, at::TensorOptions options)
    : weight(register_parameter("weight", at::empty({dim}, options.dtype(at::kFloat)))), eps(eps) {}

at::Tensor RmsNormImpl::forward(const at::Tensor& x, const at::Tensor& amax) {
  return rms_norm(x, weight, eps, amax);
}

at::Tensor RmsNormImpl::forward_rotate(const at::Tensor& x, const at::Tensor& rotation,
                                       const at::Tensor& amax) {
  return rms_norm_rotate(x, weight, rotation, eps, amax);
}

LayerNormImpl::LayerNormImpl(int64_t dim, double eps, at::TensorOptions options)
    : weight(register_parameter("weight", at::empty({dim}, options.dtype(at::kFloat)))),
      bias(register_parameter("bias", at::empty({dim}, options.dtype(at::kFloat)))),
      eps(eps) {}

at::Tensor LayerNormImpl::forward(const at::Tensor& x) {
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
                                      const Residual& residual) {
  const auto [q_x, k_x, v_x] = project(x, q, k, v);
  const auto turned = [&](RmsNorm& norm, const at::Tensor& y) -> Measured {
    const at::Tensor amax = amax_if(heads_on_fp8(hif8), y);
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
  const Measured out = attend(hif8, {query, own_q.amax}, {key, own_k.amax}, value, shards, {}, *o);
  const at::Tensor own =
      heads_to_tokens(out.x, shards.tokens, shards.ranks.ulysses);  // [B, L, H, D]
  return o(Measured{own.flatten(2), out.amax}, residual);           // [B, L, C]
}

at::Tensor AttentionImpl::attend_text(const at::Tensor& x, const TextKeys& text,
                                      const Residual& residual) {
  const at::Tensor amax = amax_if(heads_on_fp8(hif8), x);
  const Measured query{norm_q(q(x), amax).unflatten(2, {num_heads, -1}), amax};  // [B, L, H, D]
  const Measured out = attend(hif8, query, text.key, text.value, {}, text.log_weight, *o);
  return o(Measured{out.x.flatten(2), out.amax}, residual);  // [B, L, C]
}

TextKeys AttentionImpl::text_keys(const TextRows& text) {
  const auto heads = [&](const at::Tensor& y) {
    return y.unflatten(2, {num_heads, -1});  // [B, T, H, D]
  };
  const auto [k_text, v_text] = project(text.rows, k, v);
  return {heads(norm_k(k_text)), heads(v_text), text.log_weight};
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
                                         const Placement& place, Pattern pattern, Spans* spans) {
  const auto m = (modulation + time).chunk(6, 1);  // 6 x [B, 1, C]
  Span part(spans, SpanKind::kPart, "self-attention");
  auto y = modulated(x, /*shift=*/m[0], /*scale=*/m[1], eps, *self_attn->q);
  x = self_attn->attend_self(y, place, pattern, {x, /*gate=*/m[2]});
  part.next("text attention");
  x = cross_attn->attend_text(norm3(x), text, {x});
  part.next("feed-forward");
  y = modulated(x, /*shift=*/m[3], /*scale=*/m[4], eps, *ffn->first);
  return ffn(y, Residual{x, /*gate=*/m[5]});
}

HeadImpl::HeadImpl(const TransformerConfig& config, at::TensorOptions options)
    : modulation(register_parameter("modulation",
                                    at::empty({1, 2, config.dim}, options.dtype(at::kFloat)))),
      head(register_module("head", Linear(config.dim, config.out_dim * kPatchRows * kPatchColumns,
                                          options.dtype(at::kFloat)))),
      eps(config.eps) {}

at::Tensor HeadImpl::forward(const at::Tensor& x, const at::Tensor& time) {
  const auto m = (modulation + time.unsqueeze(1)).chunk(2, 1);  // 2 x [B, 1, C]
  return head(layer_norm_modulate(x.to(at::kFloat), /*shift=*/m[0], /*scale=*/m[1],
                                  eps));  // [B, L, 2·2·out_dim]
}

at::Tensor time_sinusoid(const at::Tensor& timestep, int64_t freq_dim) {
  constexpr double kLongestPeriod = 10000;
  const int64_t half = freq_dim / 2;
  const auto exponents = at::arange(half, timestep.options().dtype(at::kDouble)) / half;  // [half]
  const auto angles =
      timestep.to(at::kDouble).unsqueeze(1) * at::pow(kLongestPeriod, -exponents);  // [B, half]
  return at::cat({angles.cos(), angles.sin()}, 1).to(at::kFloat);                   // [B, freq_dim]
}

}  // namespace ospnext
