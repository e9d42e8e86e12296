#include "kernels/partial_attention.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "core/torch/shape_check.h"
#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"
#endif

namespace ospnext {
namespace {

// Of one segment, q [B, L, H, D]; some rows at a time, as all scores may be more than the memory holds.
PartialAttention attend_to_part(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
#ifdef OSPNEXT_CUDA
  if (cuda::takes_attention(q, k, v)) {
    const auto [attended, sums] = cuda::attention_and_log_sum(q, k, v);
    return {attended.to(at::kFloat), sums};
  }
#endif
  constexpr int64_t kScores = int64_t{1} << 26;
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(3)));
  const at::Tensor keys = k.to(at::kFloat).permute({0, 2, 3, 1});  // [B, H, D, S]
  const at::Tensor values = v.to(at::kFloat).transpose(1, 2);      // [B, H, S, D]
  const int64_t row = std::max<int64_t>(q.size(0) * q.size(2) * k.size(1), 1);
  std::vector<at::Tensor> out, log_sum;
  for (const at::Tensor& part : q.split(std::max<int64_t>(kScores / row, 1), 1)) {
    const at::Tensor scores =
        at::matmul(part.to(at::kFloat).transpose(1, 2) * scale, keys);  // [B, H, l, S]
    const at::Tensor sum = at::logsumexp(scores, {3}, /*keepdim=*/true);
    out.push_back(at::matmul(at::exp(scores - sum), values).transpose(1, 2));  // [B, l, H, D]
    log_sum.push_back(sum.squeeze(3).transpose(1, 2));                         // [B, l, H]
  }
  return {at::cat(out, 1), at::cat(log_sum, 1)};
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
  const at::Tensor log_sum = at::logaddexp(a.log_sum, b.log_sum);
  // Where neither had a key, -inf - -inf is NaN and the weight none.
  const auto weight = [&](const at::Tensor& part) {
    return at::exp(part - log_sum).nan_to_num(0).unsqueeze(3);
  };
  return {a.out * weight(a.log_sum) + b.out * weight(b.log_sum), log_sum};
}

}  // namespace ospnext
