#include "kernels/attention.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "core/torch/shape_check.h"
#include "kernels/amax.h"
#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"
#endif

namespace ospnext {
at::Tensor unscaled(const ScaledHeads& x, at::ScalarType dtype) {
  const at::Tensor values = x.values.to(at::kFloat);
  CHECK_SHAPE(x.scale, values.size(0));
  return values.div(x.scale.view({-1, 1, 1, 1})).to(dtype);  // [B, L, H, D] / [B, 1, 1, 1]
}

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                     const at::Tensor& log_weight) {
  if (log_weight.defined()) {
    CHECK_SHAPE(log_weight, k.size(1));
  }
  if (q.numel() == 0) {
    return at::zeros_like(q);
  }
#ifdef OSPNEXT_CUDA
  if (cuda::takes_attention(q, k, v)) {
    return cuda::attention(q, k, v, log_weight);
  }
#endif
  std::optional<at::Tensor> bias;
  if (log_weight.defined()) {
    bias = log_weight.to(q.scalar_type()).view({1, 1, 1, -1});  // [1, 1, 1, S]
  }
  const auto out = at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2),
                                                    v.transpose(1, 2), bias);  // [B, H, L, D]
  return out.transpose(1, 2);                                                  // [B, L, H, D]
}

at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths) {
  const int64_t B = q.size(0), L = q.size(1), H = q.size(2), D = q.size(3);
  CHECK_SHAPE(k, B, L, H, D);
  CHECK_SHAPE(v, B, L, H, D);
  const int64_t S = static_cast<int64_t>(lengths.size());  // segments
  TORCH_CHECK(S > 0 && std::reduce(lengths.begin(), lengths.end()) == L,
              "segment lengths add up to ", std::reduce(lengths.begin(), lengths.end()),
              ", expected ", L, " tokens");
#ifdef OSPNEXT_CUDA
  if (cuda::takes_attention(q, k, v) && cuda::takes_segments(lengths)) {
    return cuda::segmented_attention(q, k, v, lengths);
  }
#endif
  if (std::adjacent_find(lengths.begin(), lengths.end(), std::not_equal_to<>()) == lengths.end()) {
    const auto as_batch = [&](const at::Tensor& x) {
      return x.reshape({B * S, L / S, H, D});  // [B·S, L/S, H, D]: each segment becomes a sample
    };
    return attention(as_batch(q), as_batch(k), as_batch(v)).reshape({B, L, H, D});  // [B, L, H, D]
  }
  const auto queries = q.split_with_sizes(lengths, 1);  // S x [B, l, H, D]
  const auto keys = k.split_with_sizes(lengths, 1);
  const auto values = v.split_with_sizes(lengths, 1);
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] > 0) {
      out.push_back(attention(queries[i], keys[i], values[i]));
    }
  }
  return at::cat(out, 1);  // [B, L, H, D]
}

at::Tensor fp8_attention(const ScaledHeads& q, const ScaledHeads& k, const ScaledHeads& v,
                         at::ScalarType dtype, const std::vector<int64_t>& lengths,
                         const at::Tensor& log_weight, const at::Tensor& amax) {
#ifdef OSPNEXT_CUDA
  if (q.values.numel() > 0 && cuda::takes_fp8_attention(q, k, v, dtype) &&
      cuda::takes_segments(lengths)) {
    return cuda::fp8_attention(q, k, v, lengths, log_weight, amax);
  }
#endif
  const at::Tensor queries = unscaled(q, dtype), keys = unscaled(k, dtype),
                   values = unscaled(v, dtype);
  const at::Tensor out = lengths.empty() ? attention(queries, keys, values, log_weight)
                                         : segmented_attention(queries, keys, values, lengths);
  raise_amax(amax, out);
  return out;
}

}  // namespace ospnext
