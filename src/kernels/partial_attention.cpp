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

constexpr int64_t kMultiple = 8;  // of D in ATen's kernel for GPUs

// b l h d -> b h l d. On a GPU, zeros fill D up to a multiple of kMultiple.
at::Tensor heads_first(const at::Tensor& x) {
  const at::Tensor rows = x.transpose(1, 2);  // [B, H, L, D]
  const int64_t missing = x.is_cuda() ? (kMultiple - x.size(3) % kMultiple) % kMultiple : 0;
  return missing == 0 ? rows : at::pad(rows, {0, missing});
}

double scale_of(const at::Tensor& q) {
  return 1 / std::sqrt(static_cast<double>(q.size(3)));
}

void check_lengths(const at::Tensor& q, const at::Tensor& k, const std::vector<int64_t>& q_lengths,
                   const std::vector<int64_t>& k_lengths) {
  TORCH_CHECK(q_lengths.size() == k_lengths.size() &&
                  std::reduce(q_lengths.begin(), q_lengths.end()) == q.size(1) &&
                  std::reduce(k_lengths.begin(), k_lengths.end()) == k.size(1),
              "partial attention: the lengths of segments do not fit ", q.size(1), " queries and ",
              k.size(1), " keys");
}

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
  at::Tensor attended, sums;
  if (q.is_cuda()) {
    std::tie(attended, sums, std::ignore, std::ignore) =
        at::_scaled_dot_product_efficient_attention(
            heads_first(q), heads_first(k), heads_first(v), {},
            /*compute_log_sumexp=*/true, /*dropout_p=*/0, /*is_causal=*/false, scale_of(q));
  } else {
    std::tie(attended, sums) = at::_scaled_dot_product_flash_attention_for_cpu(
        heads_first(q), heads_first(k), heads_first(v), /*dropout_p=*/0, /*is_causal=*/false, {},
        scale_of(q));
  }
  return {attended.narrow(3, 0, D).transpose(1, 2).to(at::kFloat),  // [B, L, H, D]
          sums.narrow(2, 0, L).transpose(1, 2)};                    // [B, L, H]
}

// partial_attention_gradients() of one segment, which has queries and keys.
AttentionGradients gradients_of_part(const at::Tensor& grad, const at::Tensor& q,
                                     const at::Tensor& k, const at::Tensor& v,
                                     const at::Tensor& out, const at::Tensor& log_sum) {
#ifdef OSPNEXT_CUDA
  if (cuda::takes_attention(q, k, v)) {
    return cuda::attention_gradients(grad, q, k, v, out, log_sum);
  }
#endif
  const at::Tensor sums = log_sum.transpose(1, 2).contiguous();  // [B, H, L]
  const at::Tensor rows[] = {heads_first(grad), heads_first(q), heads_first(k), heads_first(v),
                             heads_first(out)};
  const int64_t L = q.size(1), S = k.size(1);
  at::Tensor by_q, by_k, by_v;  // [B, H, L or S, D]
  if (!q.is_cuda()) {
    std::tie(by_q, by_k, by_v) = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        rows[0], rows[1], rows[2], rows[3], rows[4], sums, /*dropout_p=*/0, /*is_causal=*/false, {},
        scale_of(q));
  } else {
    const at::Tensor seed = at::zeros({}, q.options().dtype(at::kLong));  // of no dropout
    if (q.scalar_type() == at::kFloat) {  // the only kernel that takes float32
      constexpr int64_t kRows = 32;       // of which it needs a multiple in `sums`
      const double no_weight = std::numeric_limits<double>::infinity();  // of rows that fill up
      std::tie(by_q, by_k, by_v, std::ignore) =
          at::_scaled_dot_product_efficient_attention_backward(
              rows[0], rows[1], rows[2], rows[3], {}, rows[4],
              at::constant_pad_nd(sums, {0, (kRows - L % kRows) % kRows}, no_weight), seed, seed,
              /*dropout_p=*/0, {true, true, true, false}, /*is_causal=*/false, scale_of(q));
    } else {
      std::tie(by_q, by_k, by_v) = at::_scaled_dot_product_flash_attention_backward(
          rows[0], rows[1], rows[2], rows[3], rows[4], sums, {}, {}, L, S, /*dropout_p=*/0,
          /*is_causal=*/false, seed, seed, scale_of(q));
    }
  }
  const auto tokens_first = [&](const at::Tensor& x) {
    return x.narrow(3, 0, q.size(3)).transpose(1, 2);  // [B, L or S, H, D]
  };
  return {tokens_first(by_q), tokens_first(by_k), tokens_first(by_v)};
}

}  // namespace

PartialAttention partial_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const std::vector<int64_t>& q_lengths,
                                   const std::vector<int64_t>& k_lengths) {
  const int64_t B = q.size(0), L = q.size(1), H = q.size(2), D = q.size(3), S = k.size(1);
  CHECK_SHAPE(k, B, S, H, D);
  CHECK_SHAPE(v, B, S, H, D);
  check_lengths(q, k, q_lengths, k_lengths);
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

AttentionGradients partial_attention_gradients(const at::Tensor& grad, const at::Tensor& q,
                                               const at::Tensor& k, const at::Tensor& v,
                                               const at::Tensor& out, const at::Tensor& log_sum,
                                               const std::vector<int64_t>& q_lengths,
                                               const std::vector<int64_t>& k_lengths) {
  check_lengths(q, k, q_lengths, k_lengths);
  if (q_lengths.size() == 1 && q.size(1) > 0 && k.size(1) > 0) {
    return gradients_of_part(grad, q, k, v, out, log_sum);
  }
  AttentionGradients all = {at::zeros_like(q), at::zeros_like(k), at::zeros_like(v)};
  int64_t query = 0, key = 0;
  for (size_t s = 0; s < q_lengths.size(); ++s) {
    const auto of_queries = [&](const at::Tensor& x) { return x.narrow(1, query, q_lengths[s]); };
    const auto of_keys = [&](const at::Tensor& x) { return x.narrow(1, key, k_lengths[s]); };
    if (q_lengths[s] > 0 && k_lengths[s] > 0) {
      const AttentionGradients part =
          gradients_of_part(of_queries(grad), of_queries(q), of_keys(k), of_keys(v),
                            of_queries(out), of_queries(log_sum));
      of_queries(all.query).copy_(part.query);
      of_keys(all.key).copy_(part.key);
      of_keys(all.value).copy_(part.value);
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
