// Compares the fused norm and SiLU with the same expression in plain torch operations.
#include "models/vae_norm_silu.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <cmath>

namespace ospnext::vae {
namespace {

at::Tensor plain(const at::Tensor& x, const at::Tensor& gamma, const at::Tensor& past) {
  const at::Tensor length = x.square().sum(1, true).sqrt();
  return at::cat({past, at::silu(x / length * std::sqrt(x.size(1)) * gamma)}, 2);
}

struct Case {
  explicit Case(at::ScalarType dtype, at::Device device = at::kCPU, int64_t C = 6) {
    torch::manual_seed(3);
    const auto draw = [&](at::IntArrayRef shape) {
      return at::randn(shape, at::kDouble).to(dtype).to(device);
    };
    x = draw({2, C, 3, 4, 5}).contiguous(at::MemoryFormat::ChannelsLast3d).requires_grad_();
    gamma = draw({C, 1, 1, 1}).requires_grad_();
    past = draw({2, C, 2, 4, 5});
    weight = draw({2, C, 5, 4, 5});
  }
  at::Tensor x, gamma, past, weight;
};

std::vector<at::Tensor> results(const Case& c, const at::Tensor& out) {
  const auto gradients = torch::autograd::grad({(out * c.weight).sum()}, {c.x, c.gamma});
  return {out, gradients[0], gradients[1]};
}

double difference(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor wide = expected.to(at::kDouble);
  return ((actual.to(at::kDouble) - wide).norm() / wide.norm()).item<double>();
}

TEST(VaeNormSilu, EqualsPlainOperationsInFloat64) {
  const Case c(at::kDouble);
  const auto found = results(c, norm_silu(c.x, c.gamma, 2, c.past));
  const auto expected = results(c, plain(c.x, c.gamma, c.past));
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(difference(found[i], expected[i]), 1e-14) << i;
  }
  EXPECT_TRUE(found[0].is_contiguous(at::MemoryFormat::ChannelsLast3d));
}

TEST(VaeNormSilu, FramesInFrontAreZeroWithoutPast) {
  const Case c(at::kFloat);
  const at::Tensor out = norm_silu(c.x, c.gamma, 2, {});
  EXPECT_EQ(out.slice(2, 0, 2).abs().max().item<double>(), 0);
  EXPECT_LE(difference(out.slice(2, 2), norm_silu(c.x, c.gamma, 0, {})), 1e-6);
}

TEST(VaeNormSilu, ZeroVectorsStayZero) {
  const at::Tensor zeros = at::zeros({1, 4, 1, 2, 2});
  EXPECT_TRUE(norm_silu(zeros, at::ones({4, 1, 1, 1}), 0, {}).equal(zeros));
}

TEST(VaeNormSilu, Bfloat16IsAtMostTwiceAsWrongAsPlainOperations) {
  const Case c(at::kBFloat16);
  Case exact(at::kBFloat16);
  exact.x = c.x.detach().to(at::kDouble).requires_grad_();
  exact.gamma = c.gamma.detach().to(at::kDouble).requires_grad_();
  exact.past = c.past.to(at::kDouble);
  exact.weight = c.weight.to(at::kDouble);
  const auto truth = results(exact, plain(exact.x, exact.gamma, exact.past));
  const auto found = results(c, norm_silu(c.x, c.gamma, 2, c.past));
  const auto rough = results(c, plain(c.x, c.gamma, c.past));
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].scalar_type(), at::kBFloat16);
    EXPECT_LE(difference(found[i], truth[i]), 2 * difference(rough[i], truth[i])) << i;
  }
}

TEST(VaeNormSilu, IsTheSameWithoutAGradient) {
  for (const auto dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
    const Case c(dtype);
    const at::Tensor expected = norm_silu(c.x, c.gamma, 2, c.past).detach();
    const at::NoGradGuard no_grad;
    EXPECT_TRUE(at::equal(norm_silu(c.x, c.gamma, 2, c.past), expected));
    EXPECT_EQ(norm_silu(c.x, c.gamma, 2, {}).slice(2, 0, 2).abs().max().item<double>(), 0);
    const at::Tensor zeros = at::zeros({1, 4, 1, 2, 2}, dtype);
    EXPECT_TRUE(norm_silu(zeros, at::ones({4, 1, 1, 1}), 0, {}).equal(zeros));
  }
}

// The comparison must notice one missing term.
TEST(VaeNormSiluPlanted, WithoutTheProjectionTheGradientIsWrong) {
  const Case c(at::kDouble);
  const auto found = results(c, norm_silu(c.x, c.gamma, 2, c.past));
  const at::Tensor length = c.x.square().sum(1, true).sqrt().detach();
  const at::Tensor y = c.x / length * std::sqrt(6.0) * c.gamma;
  const auto wrong = results(c, at::cat({c.past, at::silu(y)}, 2));
  EXPECT_GT(difference(wrong[1], found[1]), 1e-2);
}

TEST(VaeNormSilu, CudaEqualsCpu) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Case host(dtype, at::kCPU, 96), device(dtype, at::kCUDA, 96);
    const auto expected = results(host, norm_silu(host.x, host.gamma, 2, host.past));
    const auto found = results(device, norm_silu(device.x, device.gamma, 2, device.past));
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_LE(difference(found[i].cpu(), expected[i]), dtype == at::kFloat ? 1e-6 : 1e-2) << i;
    }
    const at::NoGradGuard no_grad;
    const at::Tensor fast = norm_silu(device.x, device.gamma, 2, device.past);
    EXPECT_LE(difference(fast.cpu(), expected[0]), dtype == at::kFloat ? 1e-6 : 1e-2);
  }
}

}  // namespace
}  // namespace ospnext::vae
