#include "kernels/partial_attention.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "core/torch/shape_check.h"
#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"
#endif

namespace ospnext {
namespace {

// Attention of one segment's queries q [B, L, H, D] to keys k, v [B, S, H, D].
PartialAttention attend_to_part(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
#ifdef OSPNEXT_CUDA
  if (cuda::takes_attention(q, k, v)) {
    const auto [attended, sums] = cuda::attention_and_log_sum(q, k, v);
    return {attended.to(at::kFloat), sums};
  }
#endif
  // The functions that at::scaled_dot_product_attention() calls, because these also return the log
  // of the sums: attended [B, H, L, D], sums [B, H, L].
  const int64_t L = q.size(1), D = q.size(3);
  constexpr int64_t kMultiple = 8;  // the GPU's kernel needs D to be a multiple of this
  const int64_t missing = q.is_cuda() ? (kMultiple - D % kMultiple) % kMultiple : 0;
  const auto heads = [&](const at::Tensor& x) {
    const at::Tensor rows = x.transpose(1, 2);  // [B, H, L or S, D]
    return missing == 0 ? rows : at::pad(rows, {0, missing});
  };
  const double scale = 1 / std::sqrt(static_cast<double>(D));
  at::Tensor attended, sums;
  if (q.is_cuda()) {
    std::tie(attended, sums, std::ignore, std::ignore) =
        at::_scaled_dot_product_efficient_attention(heads(q), heads(k), heads(v), {},
                                                    /*compute_log_sumexp=*/true, /*dropout_p=*/0,
                                                    /*is_causal=*/false, scale);
  } else {
    std::tie(attended, sums) = at::_scaled_dot_product_flash_attention_for_cpu(
        heads(q), heads(k), heads(v), /*dropout_p=*/0, /*is_causal=*/false, {}, scale);
  }
  return {attended.narrow(3, 0, D).transpose(1, 2).to(at::kFloat),  // [B, L, H, D]
          sums.narrow(2, 0, L).transpose(1, 2)};                    // [B, L, H]
}

}  // namespace

PartialAttention partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const std::vector<int64_t>& q_lengths,
                                   const std::vector<int64_t>& k_lengths) {
  const int64_t B = q.size(0), L = q.size(1), H = q.size(2), D = q.size(3), S = k.size(1);
  CHECK_SHAPE(k, B, S, H, D);
  CHECK_SHAPE(v, B, S, H, D);
  TORCH_CHECK(q_lengths.size() == k_lengths.size() &&
                  std::reduce(q_lengths.begin(), q_lengths.end()) == L &&
                  std::reduce(k_lengths.begin(), k_lengths.end()) == S,
              "partial attention: the lengths of segments do not fit ", L, " queries and ", S,
              " keys");
  if (q_lengths.size() == 1 && L > 0 && S > 0) {
    return attend_to_part(q, k, v);
  }
  const auto options = q.options().dtype(at::kFloat);
  PartialAttention all = {at::zeros({B, L, H, D}, options),
                          at::full({B, L, H}, -std::numeric_limits<float>::infinity(), options)};
  int64_t query = 0, key = 0;
  for (size_t s = 0; s < q_lengths.size(); ++s) {
    if (q_lengths[s] > 0 && k_lengths[s] > 0) {
      const PartialAttention part =
          attend_to_part(q.narrow(1, query, q_lengths[s]), k.narrow(1, key, k_lengths[s]),
                         v.narrow(1, key, k_lengths[s]));
      all.out.narrow(1, query, q_lengths[s]).copy_(part.out);
      all.log_sum.narrow(1, query, q_lengths[s]).copy_(part.log_sum);
    }
    query += q_lengths[s];
    key += k_lengths[s];
  }
  return all;
}

PartialAttention join(const PartialAttention& a, const PartialAttention& b) {
  // b's share of the sum [B, L, H]. Where neither part has a key, -inf - -inf is NaN, and the share
  // is 0.
  const at::Tensor share = at::sigmoid(b.log_sum - a.log_sum).nan_to_num_(0);
  return {at::lerp(a.out, b.out, share.unsqueeze(3)),  // share [B, L, H, 1] -> [B, L, H, D]
          at::logaddexp(a.log_sum, b.log_sum)};
}

}  // namespace ospnext
