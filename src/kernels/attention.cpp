#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "core/torch/shape_check.h"
#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"
#endif

namespace ospnext {
namespace {

// `log_weight` is added to the scaled products of a key: [S] float32, or undefined for none.
at::Tensor weighted_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                              const at::Tensor& log_weight) {
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
    bias = log_weight.to(q.scalar_type()).view({1, 1, 1, -1});
  }
  const auto out = at::scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2),
                                                    v.transpose(1, 2), bias);  // [B, H, L, D]
  return out.transpose(1, 2);                                                  // [B, L, H, D]
}

// n equal keys are one key whose product is larger by log n. In bf16, which ATen wants, that would be off by
// up to 1.6 % of n, so two keys share n: the first counts e^(a multiple of 1/16, which bf16 holds), the
// second the rest. [S] float32
at::Tensor padding_log_weight(int64_t S, int64_t padding, at::Device device) {
  constexpr double kSteps = 16;
  const auto n = static_cast<double>(padding);
  const double first = (std::ceil(std::log(n) * kSteps) - 1) / kSteps;
  at::Tensor log_weight = at::zeros({S}, at::TensorOptions().device(device).dtype(at::kFloat));
  log_weight.select(0, S - 2).fill_(first);
  log_weight.select(0, S - 1).fill_(std::log(n - std::exp(first)));
  return log_weight;
}

}  // namespace

at::Tensor attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  return weighted_attention(q, k, v, {});
}

at::Tensor attention_with_padding(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                  int64_t padding) {
  if (padding == 0) {
    return attention(q, k, v);
  }
  const int64_t S = k.size(1);
  TORCH_CHECK(padding >= 2 && S >= 2, "padding: expected at least 2 keys, got ", padding,
              " in the last two of ", S);
  return weighted_attention(q, k, v, padding_log_weight(S, padding, q.device()));
}

at::Tensor segmented_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const std::vector<int64_t>& lengths) {
  const int64_t B = q.size(0), L = q.size(1), H = q.size(2), D = q.size(3);
  CHECK_SHAPE(k, B, L, H, D);
  CHECK_SHAPE(v, B, L, H, D);
  const int64_t S = static_cast<int64_t>(lengths.size());
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
      return x.reshape({B * S, L / S, H, D});  // segments are independent, as samples are
    };
    return attention(as_batch(q), as_batch(k), as_batch(v)).reshape({B, L, H, D});
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

}  // namespace ospnext
