// Attention that is kept for a second run: the result and the gradients of attention.
#include "kernels/kept_attention.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>

#include "core/torch/random.h"
#include "kernels/attention.h"
#include "support/compare.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

struct Case {
  at::ScalarType dtype;
  int64_t width;                 // of a head
  std::vector<int64_t> lengths;  // of segments; empty: one of kTokens
};
constexpr int64_t kTokens = 45;  // no multiple of what kernels work on at once

std::vector<at::Tensor> heads_of(const Case& it, at::Device device) {
  int64_t tokens = it.lengths.empty() ? kTokens : 0;
  for (const int64_t length : it.lengths) {
    tokens += length;
  }
  at::Generator generator = seeded_generator(7, "heads");
  std::vector<at::Tensor> heads;
  for (int i = 0; i < 4; ++i) {  // q, k, v and the gradient of the result
    heads.push_back(at::randn({2, tokens, 3, it.width}, generator).to(device, it.dtype));
  }
  return heads;
}

// The result and the gradients of q, k and v by the equation, in float64.
std::vector<at::Tensor> by_equation(const Case& it, const std::vector<at::Tensor>& heads) {
  std::vector<at::Tensor> x;
  for (int i = 0; i < 3; ++i) {
    x.push_back(heads[i].to(at::kDouble).requires_grad_());
  }
  const auto lengths = it.lengths.empty() ? std::vector<int64_t>{kTokens} : it.lengths;
  std::vector<at::Tensor> parts;
  int64_t begin = 0;
  for (const int64_t length : lengths) {
    const auto own = [&](const at::Tensor& y) {
      return y.narrow(1, begin, length).transpose(1, 2);  // [B, H, l, D]
    };
    const at::Tensor scores =
        own(x[0]).matmul(own(x[1]).mT()) / std::sqrt(static_cast<double>(it.width));
    parts.push_back(scores.softmax(-1).matmul(own(x[2])).transpose(1, 2));  // [B, l, H, D]
    begin += length;
  }
  const at::Tensor out = at::cat(parts, 1);
  std::vector<at::Tensor> all{out.detach()};
  for (const at::Tensor& one : torch::autograd::grad({out}, x, {heads[3].to(at::kDouble)})) {
    all.push_back(one);
  }
  return all;
}

class KeptAttentionTest : public OnDevice {};
INSTANTIATE_ON_DEVICES(KeptAttentionTest);

TEST_P(KeptAttentionTest, HasTheGradientsOfAttention) {
  for (const Case& it : {Case{at::kFloat, 16, {}}, Case{at::kFloat, 12, {17, 0, 30}},
                         Case{at::kFloat, 16, {8, 8}}, Case{at::kBFloat16, 12, {17, 1, 30}},
                         Case{at::kBFloat16, 128, {}}, Case{at::kBFloat16, 128, {70, 3, 64}}}) {
    const std::vector<at::Tensor> heads = heads_of(it, device());
    const std::vector<at::Tensor> expected = by_equation(it, heads);
    KeptAttention kept;
    const at::Tensor first = attention_keeping(heads[0], heads[1], heads[2], it.lengths, kept);
    std::vector<at::Tensor> x;
    for (int i = 0; i < 3; ++i) {
      x.push_back(heads[i].detach().requires_grad_());
    }
    const at::Tensor again = attention_keeping(x[0], x[1], x[2], it.lengths, kept);
    EXPECT_TRUE(at::equal(first, again));
    std::vector<at::Tensor> found{again.detach()};
    for (const at::Tensor& one : torch::autograd::grad({again}, x, {heads[3]})) {
      found.push_back(one);
    }
    const double tolerance = it.dtype == at::kFloat ? 1e-5 : 1e-2;
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_LT(relative_l2(found[i].to(at::kDouble), expected[i]), tolerance)
          << at::toString(it.dtype) << " " << it.width << ", " << it.lengths.size()
          << " segments, tensor " << i;
    }
  }
}

TEST_P(KeptAttentionTest, IsNotComputedTwice) {
  const std::vector<at::Tensor> heads = heads_of({at::kFloat, 16, {}}, device());
  KeptAttention kept;
  attention_keeping(heads[0], heads[1], heads[2], {}, kept);
  kept.out.fill_(3);  // what a second run returns is this, and not attention
  EXPECT_TRUE(attention_keeping(heads[0], heads[1], heads[2], {}, kept).eq(3).all().item<bool>());
}

}  // namespace
}  // namespace ospnext
