// Joined attention to parts of the keys equals attention to all keys.
#include "kernels/partial_attention.h"

#include <gtest/gtest.h>

#include "core/torch/random.h"
#include "kernels/attention.h"
#include "support/compare.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

struct Heads {
  at::Tensor q, k, v;
};

Heads draw(int64_t B, int64_t L, int64_t S) {
  at::Generator generator = seeded_generator(1, "partial attention");
  const auto heads = [&](int64_t n) { return torch::randn({B, n, 3, 8}, generator, at::kFloat); };
  return {heads(L), heads(S), heads(S)};
}

TEST(PartialAttention, OfAllKeysIsAttention) {
  const auto [q, k, v] = draw(2, 7, 11);
  EXPECT_LT(relative_l2(partial_attention(q, k, v, {7}, {11}).out, attention(q, k, v)), 1e-6);
}

TEST(PartialAttention, PartsJoinInAnyOrder) {
  const auto [q, k, v] = draw(2, 7, 11);
  PartialAttention left = partial_attention(q, k.narrow(1, 0, 4), v.narrow(1, 0, 4), {7}, {4});
  const PartialAttention none =
      partial_attention(q, k.narrow(1, 4, 0), v.narrow(1, 4, 0), {7}, {0});
  const PartialAttention right =
      partial_attention(q, k.narrow(1, 4, 7), v.narrow(1, 4, 7), {7}, {7});
  const at::Tensor expected = attention(q, k, v);
  EXPECT_LT(relative_l2(join(join(left, none), right).out, expected), 1e-6);
  EXPECT_LT(relative_l2(join(join(none, right), left).out, expected), 1e-6);
  EXPECT_EQ(join(none, none).out.abs().max().item<float>(), 0);
  left.log_sum += 1;  // planted: a wrong weight
  EXPECT_GT(relative_l2(join(left, right).out, expected), 1e-2);
}

TEST(PartialAttention, StaysInsideSegmentsThatMayBeEmpty) {
  const auto [q, k, v] = draw(1, 6, 6);
  const at::Tensor expected = segmented_attention(q, k, v, {2, 0, 4});
  const PartialAttention first =
      partial_attention(q, k.narrow(1, 0, 3), v.narrow(1, 0, 3), {2, 0, 4}, {2, 0, 1});
  const PartialAttention second =
      partial_attention(q, k.narrow(1, 3, 3), v.narrow(1, 3, 3), {2, 0, 4}, {0, 0, 3});
  EXPECT_LT(relative_l2(join(first, second).out, expected), 1e-6);
  EXPECT_EQ(partial_attention(q.narrow(1, 0, 0), k, v, {0}, {6}).out.numel(), 0);
}

TEST(PartialAttention, HoldsWithLargeScores) {
  const auto [q, k, v] = draw(1, 3, 8);
  const PartialAttention joined =
      join(partial_attention(100 * q, k.narrow(1, 0, 4), v.narrow(1, 0, 4), {3}, {4}),
           partial_attention(100 * q, k.narrow(1, 4, 4), v.narrow(1, 4, 4), {3}, {4}));
  EXPECT_LT(relative_l2(joined.out, attention(100 * q, k, v)), 1e-5);
}

class PartialAttentionOfAnySize : public OnDevice {};
INSTANTIATE_ON_DEVICES(PartialAttentionOfAnySize);

TEST_P(PartialAttentionOfAnySize, PartsJoin) {
  const at::NoGradGuard no_gradient;
  for (const int64_t D : {8, 12, 128}) {
    at::Generator generator = seeded_generator(D, "partial attention");
    const auto heads = [&](int64_t n) { return torch::randn({2, n, 3, D}, generator, at::kFloat); };
    const at::Tensor q = heads(37), k = heads(50), v = heads(50);
    const auto part = [&](int64_t begin, int64_t count) {
      const auto cut = [&](const at::Tensor& x) { return x.narrow(1, begin, count).to(device()); };
      return partial_attention(q.to(device()), cut(k), cut(v), {37}, {count});
    };
    EXPECT_LT(relative_l2(join(part(0, 33), part(33, 17)).out.cpu(), attention(q, k, v)), 1e-6)
        << D;
  }
}

class PartialAttentionInBf16 : public OnDevice {};
INSTANTIATE_ON_DEVICES(PartialAttentionInBf16);

// With heads of 128, the Hopper kernel computes where there is one. It rounds each part to bf16.
TEST_P(PartialAttentionInBf16, PartsJoinAsWellAsAWholeIsRounded) {
  const at::NoGradGuard no_gradient;
  at::Generator generator = seeded_generator(2, "partial attention");
  const auto heads = [&](int64_t n) {
    return torch::randn({2, n, 3, 128}, generator, at::kFloat).to(at::kBFloat16);
  };
  const at::Tensor q = heads(150), k = heads(333), v = heads(333);
  const at::Tensor exact = attention(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble));
  const auto part = [&](int64_t begin, int64_t count) {
    const auto cut = [&](const at::Tensor& x) { return x.narrow(1, begin, count).to(device()); };
    return partial_attention(q.to(device()), cut(k), cut(v), {150}, {count});
  };
  const PartialAttention joined = join(join(part(0, 200), part(200, 1)), part(201, 132));
  const double rounding = relative_l2(attention(q, k, v), exact);  // plain bf16
  EXPECT_LT(relative_l2(joined.out.cpu(), exact), 2 * rounding);
  EXPECT_LT(relative_l2(joined.log_sum.cpu(), part(0, 333).log_sum.cpu()), 1e-4);
}

}  // namespace
}  // namespace ospnext
