#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"

#include <torch/autograd.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <optional>

#include "core/torch/if_defined.h"
#include "core/torch/shape_check.h"
#include "kernels/attention_launch.h"
#include "kernels/cuda_tensors.h"

namespace ospnext::cuda {
namespace {

constexpr int64_t kHeadWidth = 128;

bool is_hopper(const at::Device& device) {
  int major = 0, minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device.index()));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device.index()));
  return major == 9 && minor == 0;
}

// x [B, tokens, H, 128], or a contiguous copy if the kernel cannot read x with its strides.
at::Tensor readable(const at::Tensor& x) {
  const int64_t vector = 16 / x.element_size();
  bool fits = x.stride(3) == 1 && reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  for (int64_t i = 0; i < 3; ++i) {
    fits = fits && (x.size(i) == 1 || (x.stride(i) > 0 && x.stride(i) % vector == 0));
  }
  return fits ? x : x.clone(at::MemoryFormat::Contiguous);
}

HeadsOfTokens heads_of(const at::Tensor& x) {
  return {const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1), x.stride(2)};
}

// The scales [B] float32 of the operands; undefined: 1.
struct Scales {
  at::Tensor query, key, value;
};

// E4M3 values v [B, T, H, 128] -> [B, H, 128, columns], in the order of value_columns()
// (attention_launch.h).
at::Tensor columns_of(const at::Tensor& v, const std::vector<int64_t>& offsets, int64_t segments,
                      cudaStream_t stream) {
  const int64_t B = v.size(0), T = v.size(1), H = v.size(2);
  const int64_t columns = value_columns(offsets.data(), segments, T);
  at::Tensor turned = at::empty({B, H, kHeadWidth, columns}, v.options());
  C10_CUDA_CHECK(launch_value_columns(heads_of(v), turned.mutable_data_ptr(), B, T, H,
                                      offsets.data(), segments, stream));
  return turned;
}

at::Tensor launch(const at::Tensor& q_in, const at::Tensor& k_in, const at::Tensor& v_in,
                  const at::Tensor& log_weight, const std::vector<int64_t>& offsets,
                  const Scales& scales = {}, const at::Tensor& amax = {},
                  const at::Tensor& log_sum = {}) {
  const at::Tensor q = readable(q_in), k = readable(k_in), v = readable(v_in);
  const int64_t B = q.size(0), S = k.size(1), H = q.size(2);
  CHECK_SHAPE(k, B, S, H, kHeadWidth);
  CHECK_SHAPE(v, B, S, H, kHeadWidth);
  if (log_weight.defined()) {
    CHECK_SHAPE(log_weight, S);
  }
  const c10::cuda::CUDAGuard device(q.device());
  const auto stream = c10::cuda::getCurrentCUDAStream();
  at::Tensor out = at::empty(q.sizes(), v.options().dtype(at::kBFloat16));  // [B, L, H, 128]
  AttentionArgs args{};
  args.q = heads_of(q);
  args.k = heads_of(k);
  args.v = heads_of(v);
  args.o = heads_of(out);
  args.amax = amax_of(if_defined(amax), q);
  args.lse = log_sum.defined() ? log_sum.mutable_data_ptr<float>() : nullptr;
  args.bias = log_weight.defined() ? floats(log_weight) : nullptr;
  if (scales.query.defined()) {
    CHECK_SHAPE(scales.query, B);
    CHECK_SHAPE(scales.key, B);
    CHECK_SHAPE(scales.value, B);
    args.q_scale = floats(scales.query);
    args.k_scale = floats(scales.key);
    args.v_scale = floats(scales.value);
  }
  args.B = B;
  args.L = q.size(1);
  args.T = S;
  args.H = H;
  args.offsets = offsets.data();
  args.segments = offsets.empty() ? 0 : static_cast<int64_t>(offsets.size()) - 1;
  at::Tensor columns;
  if (v.scalar_type() == at::kFloat8_e4m3fn && S > 0) {
    columns = columns_of(v, offsets, args.segments, stream);
    args.value_columns = columns.const_data_ptr();
  }
  C10_CUDA_CHECK(launch_attention(args, stream));
  return out;
}

bool takes(const at::Tensor& x, at::ScalarType dtype, const at::Device& device) {
  return x.is_cuda() && x.device() == device && x.scalar_type() == dtype && x.dim() == 4 &&
         x.size(3) == kHeadWidth;
}

// Empty for no lengths: one segment of all tokens.
std::vector<int64_t> offsets_of(const std::vector<int64_t>& lengths) {
  if (lengths.empty()) {
    return {};
  }
  std::vector<int64_t> offsets{0};
  for (const int64_t length : lengths) {
    offsets.push_back(offsets.back() + length);
  }
  return offsets;
}

using HeadGradients = std::array<at::Tensor, 3>;  // of q, k and v

// What the gradient of attention needs, [B, l, H, 128] each; log_sum [B, H, l].
struct Attended {
  at::Tensor grad, q, k, v, out, log_sum;
};

// The gradients of attention to all keys, by cuDNN, or by FlashAttention for few queries or keys
// and for sums in a fixed order, which ATen's call of cuDNN does not offer. 3 x [B, H, l, 128].
HeadGradients plain_gradients(const Attended& it) {
  constexpr int64_t kFew = 64;
  const double scale = 1 / std::sqrt(static_cast<double>(kHeadWidth));
  const auto heads = [](const at::Tensor& x) { return x.transpose(1, 2); };  // [B, H, l, 128]
  const at::Tensor seed = at::zeros({}, it.q.options().dtype(at::kLong));    // of no dropout
  const int64_t L = it.q.size(1), S = it.k.size(1);
  if (std::min(L, S) < kFew || at::globalContext().deterministicAlgorithms()) {
    const auto [q, k, v] = at::_scaled_dot_product_flash_attention_backward(
        heads(it.grad), heads(it.q), heads(it.k), heads(it.v), heads(it.out),
        it.log_sum.contiguous(), {}, {}, L, S, /*dropout_p=*/0, /*is_causal=*/false, seed, seed,
        scale);
    return {q, k, v};
  }
  const at::Tensor stats = it.log_sum.contiguous().unsqueeze(3);  // [B, H, l, 1]
  const auto [q, k, v] = at::_scaled_dot_product_cudnn_attention_backward(
      heads(it.grad), heads(it.q), heads(it.k), heads(it.v), heads(it.out), stats, seed, seed,
      /*attn_bias=*/{}, {}, {}, L, S, /*dropout_p=*/0, /*is_causal=*/false, scale);
  return {q, k, v};
}

// The same with log_weight [S] added to the scores. ATen takes weights of q's dtype for each query.
HeadGradients weighted_gradients(const Attended& it, const at::Tensor& log_weight) {
  constexpr int64_t kMultiple = 32;                                      // of the rows of log_sum
  constexpr double kNoWeight = std::numeric_limits<double>::infinity();  // of rows that fill up
  const double scale = 1 / std::sqrt(static_cast<double>(kHeadWidth));
  const int64_t B = it.q.size(0), L = it.q.size(1), H = it.q.size(2), S = it.k.size(1);
  const auto heads = [](const at::Tensor& x) { return x.transpose(1, 2); };  // [B, H, l, 128]
  const int64_t missing = (kMultiple - L % kMultiple) % kMultiple;
  const at::Tensor seed = at::zeros({}, it.q.options().dtype(at::kLong));  // of no dropout
  const auto [q, k, v, none] = at::_scaled_dot_product_efficient_attention_backward(
      heads(it.grad), heads(it.q), heads(it.k), heads(it.v),
      log_weight.to(it.q.scalar_type()).expand({B, H, L, S}), heads(it.out),
      at::constant_pad_nd(it.log_sum, {0, missing}, kNoWeight), seed, seed, /*dropout_p=*/0,
      {true, true, true, false}, /*is_causal=*/false, scale);
  return {q, k, v};
}

// The gradients inside segments, 3 x [B, L, H, 128]. Segments of equal length are one batch.
HeadGradients segment_gradients(const Attended& it, const std::vector<int64_t>& lengths) {
  const int64_t B = it.q.size(0), L = it.q.size(1), H = it.q.size(2);
  const auto S = static_cast<int64_t>(lengths.size());
  if (std::adjacent_find(lengths.begin(), lengths.end(), std::not_equal_to<>()) == lengths.end()) {
    const auto split = [&](const at::Tensor& x) {
      return x.reshape({B * S, L / S, H, kHeadWidth});  // [B·S, L/S, H, 128]
    };
    const at::Tensor log_sum =
        it.log_sum.view({B, H, S, L / S}).transpose(1, 2).flatten(0, 1);  // [B·S, H, L/S]
    HeadGradients parts = plain_gradients(
        {split(it.grad), split(it.q), split(it.k), split(it.v), split(it.out), log_sum});
    for (at::Tensor& part : parts) {
      part = part.transpose(1, 2).reshape({B, L, H, kHeadWidth});  // [B, L, H, 128]
    }
    return parts;
  }
  HeadGradients all = {at::empty_like(it.out), at::empty_like(it.out), at::empty_like(it.out)};
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    if (length > 0) {
      const auto own = [&](const at::Tensor& x) { return x.narrow(1, begin, length); };
      const HeadGradients parts =
          plain_gradients({own(it.grad), own(it.q), own(it.k), own(it.v), own(it.out),
                           it.log_sum.narrow(2, begin, length)});
      for (size_t i = 0; i < parts.size(); ++i) {
        own(all[i]).copy_(parts[i].transpose(1, 2));  // [B, l, H, 128]
      }
    }
    begin += length;
  }
  return all;
}

// Attention with a gradient. q [B, L, H, 128]; k, v [B, S, H, 128]; log_weight [S] or none;
// `lengths` of segments, or none: every query attends to all keys.
struct HopperAttention : torch::autograd::Function<HopperAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& q,
                            const at::Tensor& k, const at::Tensor& v,
                            const std::optional<at::Tensor>& log_weight,
                            const std::vector<int64_t>& lengths) {
    const at::Tensor log_sum =
        at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));  // [B, H, L]
    const at::Tensor out =
        launch(q, k, v, log_weight.value_or(at::Tensor()), offsets_of(lengths), {}, {}, log_sum);
    context->save_for_backward({q, k, v, out, log_sum, log_weight.value_or(at::Tensor())});
    context->saved_data["lengths"] = lengths;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const Attended it{gradients[0].contiguous(), saved[0], saved[1], saved[2], saved[3], saved[4]};
    const at::Tensor& log_weight = saved[5];
    const auto lengths = context->saved_data["lengths"].toIntVector();
    const c10::cuda::CUDAGuard device(it.q.device());
    HeadGradients found;
    if (it.q.numel() == 0 || it.k.numel() == 0) {
      found = {at::zeros_like(it.q), at::zeros_like(it.k), at::zeros_like(it.v)};
    } else if (!lengths.empty()) {
      found = segment_gradients(it, lengths);
    } else {
      found = log_weight.defined() ? weighted_gradients(it, log_weight) : plain_gradients(it);
      for (at::Tensor& one : found) {
        one = one.transpose(1, 2);  // [B, L or S, H, 128]
      }
    }
    return {found[0], found[1], found[2], {}, {}};
  }
};

// Whether the log of the sums must be stored for a gradient. It changes no other result.
bool wants_gradient(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return at::GradMode::is_enabled() &&
         (q.requires_grad() || k.requires_grad() || v.requires_grad());
}

}  // namespace

bool takes_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Device device = q.device();
  return takes(q, at::kBFloat16, device) && takes(k, at::kBFloat16, device) &&
         takes(v, at::kBFloat16, device) && is_hopper(device);
}

bool takes_fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype) {
  const at::Device device = q.values.device();
  return dtype == at::kBFloat16 && takes(q.values, at::kFloat8_e4m3fn, device) &&
         takes(k.values, at::kFloat8_e4m3fn, device) &&
         (takes(v.values, at::kBFloat16, device) || takes(v.values, at::kFloat8_e4m3fn, device)) &&
         is_hopper(device);
}

bool takes_segments(const std::vector<int64_t>& lengths) {
  return static_cast<int64_t>(lengths.size()) <= kMaxAttentionSegments;
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight) {
  return wants_gradient(q, k, v)
             ? HopperAttention::apply(q, k, v, if_defined(log_weight), std::vector<int64_t>())
             : launch(q, k, v, log_weight, {});
}

std::pair<at::Tensor, at::Tensor> attention_and_log_sum(const at::Tensor& q, const at::Tensor& k,
                                                        const at::Tensor& v,
                                                        const std::vector<int64_t>& lengths) {
  const at::Tensor log_sum =
      at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(at::kFloat));  // [B, H, L]
  const at::Tensor out = launch(q, k, v, {}, offsets_of(lengths), {}, {}, log_sum);
  return {out, log_sum.transpose(1, 2)};  // [B, L, H, 128], [B, L, H]
}

AttentionGradients attention_gradients(const at::Tensor& grad, const at::Tensor& q,
                                       const at::Tensor& k, const at::Tensor& v,
                                       const at::Tensor& out, const at::Tensor& log_sum) {
  const c10::cuda::CUDAGuard device(q.device());
  const HeadGradients found = plain_gradients(
      {grad.contiguous(), q, k, v, out, log_sum.transpose(1, 2)});  // log_sum [B, H, L]
  const auto tokens_first = [](const at::Tensor& x) {
    return x.transpose(1, 2);  // [B, l, H, 128]
  };
  return {tokens_first(found[0]), tokens_first(found[1]), tokens_first(found[2])};
}

at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths) {
  return wants_gradient(q, k, v)
             ? HopperAttention::apply(q, k, v, std::optional<at::Tensor>(), lengths)
             : launch(q, k, v, {}, offsets_of(lengths));
}

at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         const std::vector<int64_t>& lengths, const at::Tensor& log_weight,
                         const at::Tensor& amax) {
  return launch(q.values, k.values, v.values, log_weight, offsets_of(lengths),
                {q.scale, k.scale, v.scale}, amax);
}

}  // namespace ospnext::cuda
#endif
