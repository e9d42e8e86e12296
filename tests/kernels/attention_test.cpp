// Attention with heads of 128 channels, as in the models. On Hopper GPUs this is our own kernel,
// elsewhere ATen's.
#include "kernels/attention.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>
#include <functional>
#include <numeric>

#include "core/torch/random.h"
#include "core/torch/torch.h"
#include "support/compare.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

constexpr int64_t kWidth = 128;

at::Tensor draw(at::IntArrayRef shape, const char* purpose) {
  return at::randn(shape, seeded_generator(5, purpose)).to(at::kBFloat16);
}

// The equation in plain operators in q's dtype, on the CPU. log_weight [S] or undefined.
at::Tensor plain(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                 const at::Tensor& log_weight = {}) {
  at::Tensor logits = at::einsum("blhd,bmhd->bhlm", {q, k}) / std::sqrt(kWidth);  // [B, H, L, S]
  if (log_weight.defined()) {
    logits = logits + log_weight.to(logits.scalar_type());
  }
  return at::einsum("bhlm,bmhd->blhd", {logits.softmax(-1), v});
}

at::Tensor plain_segments(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<int64_t>& lengths) {
  const auto queries = q.split_with_sizes(lengths, 1), keys = k.split_with_sizes(lengths, 1),
             values = v.split_with_sizes(lengths, 1);
  std::vector<at::Tensor> out;
  for (size_t i = 0; i < lengths.size(); ++i) {
    if (lengths[i] > 0) {
      out.push_back(plain(queries[i], keys[i], values[i]));
    }
  }
  return at::cat(out, 1);
}

// Expects the error of `actual` to be at most twice that of `narrow`, the equation in plain bf16.
void expect_close(const at::Tensor& actual, const at::Tensor& exact, const at::Tensor& narrow) {
  EXPECT_EQ(actual.scalar_type(), at::kBFloat16);
  EXPECT_LE(relative_l2(actual, exact), 2 * relative_l2(narrow, exact));
}

class WideAttention : public OnDevice {
  torch::NoGradGuard no_grad_;
};
INSTANTIATE_ON_DEVICES(WideAttention);

TEST_P(WideAttention, StaysInsideSegmentsOfAnyLength) {
  const std::vector<std::vector<int64_t>> cases{
      {1}, {64}, {127, 129}, {192, 193}, {0, 63, 1, 0, 200, 385, 0}, {300, 0, 300, 64, 65}};
  for (const auto& lengths : cases) {
    const int64_t L = std::reduce(lengths.begin(), lengths.end());
    SCOPED_TRACE(L);
    const at::Tensor packed = draw({2, L, 3, 3, kWidth}, "qkv");
    const auto parts = packed.unbind(2);
    const auto on_device = packed.to(device()).unbind(2);  // 3 views [B, L, H, 128]
    const at::Tensor out = segmented_attention(on_device[0], on_device[1], on_device[2], lengths);
    expect_close(out,
                 plain_segments(parts[0].to(at::kDouble), parts[1].to(at::kDouble),
                                parts[2].to(at::kDouble), lengths),
                 plain_segments(parts[0], parts[1], parts[2], lengths));
    const at::Tensor of_copies = segmented_attention(
        on_device[0].contiguous(), on_device[1].contiguous(), on_device[2].contiguous(), lengths);
    EXPECT_TRUE(at::equal(out, of_copies));
  }
}

TEST_P(WideAttention, AttendsToAnyNumberOfKeys) {
  for (const auto& [L, S] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {300, 77}, {5, 512}, {700, 512}, {129, 177}}) {
    SCOPED_TRACE(S);
    const at::Tensor q = draw({2, L, 4, kWidth}, "q");
    const at::Tensor k = draw({2, S, 4, kWidth}, "k"), v = draw({2, S, 4, kWidth}, "v");
    expect_close(attention(q.to(device()), k.to(device()), v.to(device())),
                 plain(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble)), plain(q, k, v));
  }
}

TEST_P(WideAttention, SurvivesOutliers) {
  at::Tensor q = draw({1, 260, 2, kWidth}, "q"), k = draw({1, 260, 2, kWidth}, "k");
  const at::Tensor v = draw({1, 260, 2, kWidth}, "v") + 3;
  q.select(3, 5).mul_(20);
  k.select(3, 5).mul_(20);
  k.select(1, 7).mul_(8);
  expect_close(attention(q.to(device()), k.to(device()), v.to(device())),
               plain(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble)), plain(q, k, v));
}

// Gradients of q, k and v are at most twice as wrong as those of the equation in plain bf16, and
// the result is that without a gradient. `computed` and `written` are the same attention, ours and
// by plain operators.
void expect_gradients(const std::vector<at::Tensor>& heads, at::Device device,
                      const std::function<at::Tensor(const std::vector<at::Tensor>&)>& computed,
                      const std::function<at::Tensor(const std::vector<at::Tensor>&)>& written) {
  const at::AutoGradMode with_gradient(true);
  const at::Tensor by_out = draw(heads[0].sizes(), "gradient");
  const auto gradients = [&](const auto& function, at::Device where, at::ScalarType dtype) {
    std::vector<at::Tensor> leaves;
    for (const at::Tensor& one : heads) {
      leaves.push_back(one.to(where, dtype).detach().clone().requires_grad_());
    }
    return torch::autograd::grad({function(leaves)}, leaves, {by_out.to(where, dtype)});
  };
  const auto found = gradients(computed, device, at::kBFloat16);
  const auto exact = gradients(written, at::kCPU, at::kDouble);
  const auto narrow = gradients(written, at::kCPU, at::kBFloat16);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(relative_l2(found[i].cpu(), exact[i]), 2 * relative_l2(narrow[i], exact[i])) << i;
  }
  std::vector<at::Tensor> here;
  for (const at::Tensor& one : heads) {
    here.push_back(one.to(device).requires_grad_());
  }
  const at::Tensor out = computed(here);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(computed(here), out));
}

TEST_P(WideAttention, HasTheGradientOfTheEquation) {
  for (const auto& [L, S] :
       std::vector<std::pair<int64_t, int64_t>>{{300, 300}, {129, 177}, {200, 24}, {5, 512}}) {
    SCOPED_TRACE(testing::Message() << L << " queries, " << S << " keys");
    const std::vector<at::Tensor> heads = {
        draw({2, L, 3, kWidth}, "q"), draw({2, S, 3, kWidth}, "k"), draw({2, S, 3, kWidth}, "v")};
    expect_gradients(
        heads, device(), [](const auto& x) { return attention(x[0], x[1], x[2]); },
        [](const auto& x) { return plain(x[0], x[1], x[2]); });
  }
  const int64_t S = 40;
  const at::Tensor log_weight = at::zeros({S});
  log_weight.select(0, S - 2).fill_(5.5);  // exact in bf16
  const at::Tensor there = log_weight.to(device());
  expect_gradients(
      {draw({2, 150, 3, kWidth}, "q"), draw({2, S, 3, kWidth}, "k"), draw({2, S, 3, kWidth}, "v")},
      device(), [&](const auto& x) { return attention(x[0], x[1], x[2], there); },
      [&](const auto& x) { return plain(x[0], x[1], x[2], log_weight); });
}

TEST_P(WideAttention, HasItsGradientInsideSegments) {
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{100, 100, 100}, {127, 129}, {0, 63, 1, 0, 200}}) {
    const int64_t L = std::reduce(lengths.begin(), lengths.end());
    SCOPED_TRACE(L);
    expect_gradients(
        {draw({2, L, 3, kWidth}, "q"), draw({2, L, 3, kWidth}, "k"), draw({2, L, 3, kWidth}, "v")},
        device(), [&](const auto& x) { return segmented_attention(x[0], x[1], x[2], lengths); },
        [&](const auto& x) { return plain_segments(x[0], x[1], x[2], lengths); });
  }
}

TEST_P(WideAttention, WeighsKeysByTheirLogWeight) {
  const at::Tensor q = draw({2, 150, 3, kWidth}, "q");
  const at::Tensor k = draw({2, 200, 3, kWidth}, "k"), v = draw({2, 200, 3, kWidth}, "v");
  at::Tensor log_weight = at::zeros({200});
  log_weight[199] = 4.0625;  // held by bf16
  log_weight[3] = -INFINITY;
  expect_close(attention(q.to(device()), k.to(device()), v.to(device()), log_weight.to(device())),
               plain(q.to(at::kDouble), k.to(at::kDouble), v.to(at::kDouble), log_weight),
               plain(q, k, v, log_weight));
}

// Queries, keys or values [2, tokens, 3, 128] for FP8 attention, and the numbers they represent.
struct Scaled {
  Scaled(int64_t tokens, const char* purpose, bool codes)
      : heads{draw({2, tokens, 3, kWidth}, purpose), at::tensor({11.3F, 0.77F})} {
    heads.values = heads.values * 30;
    heads.values = heads.values.to(codes ? at::kFloat8_e4m3fn : at::kBFloat16);
    exact = heads.values.to(at::kDouble) / heads.scale.view({2, 1, 1, 1});
  }
  ScaledHeads on(const at::Device& device) const {
    return {heads.values.to(device), heads.scale.to(device)};
  }
  ScaledHeads heads;
  at::Tensor exact;
};

TEST_P(WideAttention, Fp8IsAttentionToWhatTheCodesStandFor) {
  for (const std::vector<int64_t>& lengths :
       {std::vector<int64_t>{1}, {127, 129}, {0, 63, 1, 0, 200, 385, 0}}) {
    const int64_t L = std::reduce(lengths.begin(), lengths.end());
    SCOPED_TRACE(L);
    Scaled q(L, "q", true);
    const Scaled k(L, "k", true), v(L, "v", false);
    q.heads.scale *= 30;  // small logits, so that many keys have weight
    q.exact /= 30;
    const auto narrow = [](const Scaled& x) { return x.exact.to(at::kBFloat16); };
    expect_close(
        fp8_attention(q.on(device()), k.on(device()), v.on(device()), at::kBFloat16, lengths),
        plain_segments(q.exact, k.exact, v.exact, lengths),
        plain_segments(narrow(q), narrow(k), narrow(v), lengths));
    at::Tensor log_weight = at::zeros({L});
    log_weight[L - 1] = 4.0625;  // held by bf16
    expect_close(fp8_attention(q.on(device()), k.on(device()), v.on(device()), at::kBFloat16, {},
                               log_weight.to(device())),
                 plain(q.exact, k.exact, v.exact, log_weight),
                 plain(narrow(q), narrow(k), narrow(v), log_weight));
  }
  const Scaled none(0, "none", true), no_values(0, "none", false);
  EXPECT_EQ(
      fp8_attention(none.on(device()), none.on(device()), no_values.on(device()), at::kBFloat16)
          .sizes(),
      (at::IntArrayRef{2, 0, 3, kWidth}));
}

// The equation with rounded weights: each weight, relative to the largest of its row, is multiplied
// by 2^8, rounded to E4M3 and divided by 2^8.
at::Tensor with_e4m3_weights(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
  const at::Tensor logits = at::einsum("blhd,bmhd->bhlm", {q, k}) / std::sqrt(kWidth);
  const at::Tensor weights = (logits - logits.amax(-1, true)).exp();  // [B, H, L, S]
  const at::Tensor rounded = (weights * 256).to(at::kFloat8_e4m3fn).to(at::kDouble) / 256;
  return at::einsum("bhlm,bmhd->blhd", {rounded / weights.sum(-1, true), v});
}

TEST_P(WideAttention, Fp8ValuesCostTheRoundingOfWeights) {
  for (const int64_t L : {1, 15, 129, 400}) {
    SCOPED_TRACE(L);
    Scaled q(L, "q", true);
    const Scaled k(L, "k", true), v(L, "v", true);
    q.heads.scale *= 30;
    q.exact /= 30;
    const at::Tensor out =
        fp8_attention(q.on(device()), k.on(device()), v.on(device()), at::kBFloat16);
    const at::Tensor exact = plain(q.exact, k.exact, v.exact);
    const at::Tensor coarse = with_e4m3_weights(q.exact, k.exact, v.exact).to(at::kBFloat16);
    const auto narrow = [](const Scaled& x) { return x.exact.to(at::kBFloat16); };
    const at::Tensor in_bf16 = plain(narrow(q), narrow(k), narrow(v));  // as on other devices
    EXPECT_EQ(out.scalar_type(), at::kBFloat16);
    EXPECT_LE(relative_l2(out, exact),
              2 * std::max(relative_l2(coarse, exact), relative_l2(in_bf16, exact)));
    const std::vector<int64_t> lengths{0, L / 3, 0, L - L / 3};
    const at::Tensor inside =
        fp8_attention(q.on(device()), k.on(device()), v.on(device()), at::kBFloat16, lengths);
    const at::Tensor exact_inside = plain_segments(q.exact, k.exact, v.exact, lengths);
    EXPECT_LE(relative_l2(inside, exact_inside), 0.04);  // loose: some segments are very short
  }
}

}  // namespace
}  // namespace ospnext
