// A linear layer added to its residual, against the sum in fp64.
#include "kernels/residual.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "core/torch/random.h"
#include "support/compare.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

struct Case {
  at::Tensor x, weight, bias, residual, gate;

  // x has an outlier and a nonzero mean. The gate differs by channel and is 0 for the first.
  Case(int64_t B, int64_t L, int64_t in, int64_t out) {
    const auto draw = [](at::IntArrayRef shape, const char* purpose) {
      return at::randn(shape, seeded_generator(5, purpose));
    };
    x = draw({B, L, in}, "x") + 0.2;
    x.flatten()[0] = 60;
    weight = draw({out, in}, "weight") / std::sqrt(static_cast<double>(in));
    bias = draw({out}, "bias");
    residual = draw({B, L, out}, "residual") * 3;
    gate = draw({B, 1, out}, "gate");
    gate.select(2, 0).zero_();
  }

  // Plain operators in `dtype` on the CPU; in bf16, each of them rounds its result.
  at::Tensor plain(at::ScalarType dtype, bool gated) const {
    const at::Tensor y = at::linear(x.to(dtype), weight.to(dtype), bias.to(dtype));
    return residual.to(dtype) + (gated ? y * gate.to(dtype) : y);
  }

  at::Tensor found(at::Device device, at::ScalarType dtype, bool gated, Epilogue epilogue) const {
    const auto on = [&](const at::Tensor& t) { return t.to(device, dtype); };
    return linear({on(residual).clone(), gated ? gate.to(device) : at::Tensor()}, on(x), on(weight),
                  on(bias), epilogue);
  }
};

class LinearOntoResidual : public OnDevice {};
INSTANTIATE_ON_DEVICES(LinearOntoResidual);

// More rows than columns and fewer, small sums and a large one, because these use the gate in
// different ways; widths that are no multiple of a vector.
TEST_P(LinearOntoResidual, EqualsTheSum) {
  for (const auto& [B, L, in, out] :
       {std::array<int64_t, 4>{2, 300, 64, 96}, std::array<int64_t, 4>{1, 33, 128, 40},
        std::array<int64_t, 4>{2, 1, 16, 8}, std::array<int64_t, 4>{1, 70, 13, 7},
        std::array<int64_t, 4>{1, 1030, 1024, 264}, std::array<int64_t, 4>{2, 4200, 24, 1024}}) {
    const Case it(B, L, in, out);
    for (const bool gated : {true, false}) {
      for (const Epilogue epilogue : {Epilogue::kFused, Epilogue::kSeparate}) {
        SCOPED_TRACE(testing::Message() << L << " x " << in << " -> " << out << ", gate " << gated
                                        << ", fused " << (epilogue == Epilogue::kFused));
        const at::Tensor expected = it.plain(at::kDouble, gated);
        const at::Tensor in_float = it.found(device(), at::kFloat, gated, epilogue);
        EXPECT_LE(relative_l2(in_float.cpu(), expected), 2e-6);  // sums of up to 1,024 products
        const at::Tensor narrow = it.found(device(), at::kBFloat16, gated, epilogue);
        EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
        EXPECT_LE(relative_l2(narrow.cpu(), expected),
                  1.1 * relative_l2(it.plain(at::kBFloat16, gated), expected));
      }
    }
    EXPECT_GT(relative_l2(it.plain(at::kDouble, true), it.plain(at::kDouble, false)), 0.05);
  }
}

TEST_P(LinearOntoResidual, WithoutOneIsTheLayerAlone) {
  const Case it(2, 9, 16, 24);
  const auto on = [&](const at::Tensor& t) { return t.to(device()); };
  EXPECT_TRUE(torch::equal(linear({}, on(it.x), on(it.weight), on(it.bias), Epilogue::kFused),
                           at::linear(on(it.x), on(it.weight), on(it.bias))));
}

TEST_P(LinearOntoResidual, TakesNoTokens) {
  const Case it(1, 1, 16, 24);
  const auto on = [&](const at::Tensor& t) { return t.to(device(), at::kBFloat16); };
  const at::Tensor none = at::empty({1, 0, 16}), rest = at::empty({1, 0, 24});
  const at::NoGradGuard no_gradient;
  EXPECT_EQ(linear({on(rest), it.gate.to(device())}, on(none), on(it.weight), on(it.bias),
                   Epilogue::kFused)
                .sizes(),
            (at::IntArrayRef{1, 0, 24}));
}

void expect_plain_gradients(const Case& it, at::Device device, at::ScalarType dtype, bool gated) {
  const auto leaf = [&](const at::Tensor& t) {
    return t.to(device, dtype).detach().clone().requires_grad_();
  };
  const at::Tensor residual = leaf(it.residual), x = leaf(it.x), weight = leaf(it.weight),
                   bias = leaf(it.bias);
  const at::Tensor gate = gated ? it.gate.to(device).requires_grad_() : at::Tensor();
  const at::Tensor by_sum = leaf(it.residual * it.residual);
  const auto gradients = [&](const at::Tensor& sum) {
    std::vector<at::Tensor> inputs = {residual, x, weight, bias};
    if (gated) {
      inputs.push_back(gate);
    }
    return torch::autograd::grad({sum}, inputs, {by_sum.detach()});
  };
  const at::Tensor fused = linear({residual, gate}, x, weight, bias, Epilogue::kFused);
  const auto found = gradients(fused);
  const auto expected = gradients(linear({residual, gate}, x, weight, bias, Epilogue::kSeparate));
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LE(relative_l2(found[i].cpu(), expected[i].cpu()), dtype == at::kFloat ? 2e-6 : 1e-2)
        << i;
  }
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::equal(linear({residual, gate}, x, weight, bias, Epilogue::kFused), fused));
  const Residual overwritten{residual.detach().clone(), gate, /*overwrite=*/true};
  EXPECT_TRUE(torch::equal(linear(overwritten, x, weight, bias, Epilogue::kFused), fused));
}

// Both epilogues have the same gradients, and results do not depend on whether these are wanted.
TEST_P(LinearOntoResidual, GradientsAreThoseOfPlainOperators) {
  for (const auto& [B, L, in, out] :
       {std::array<int64_t, 4>{2, 300, 64, 96}, std::array<int64_t, 4>{1, 33, 128, 40},
        std::array<int64_t, 4>{2, 4200, 24, 1024}}) {
    for (const bool gated : {true, false}) {
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        SCOPED_TRACE(testing::Message()
                     << L << " x " << in << " -> " << out << ", gate " << gated << ", " << dtype);
        expect_plain_gradients(Case(B, L, in, out), device(), dtype, gated);
      }
    }
  }
}

TEST_P(LinearOntoResidual, GeluHasTheGradientOfPlainOperators) {
  const Case it(2, 70, 64, 96);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto leaf = [&](const at::Tensor& t) {
      return t.to(device(), dtype).detach().clone().requires_grad_();
    };
    const at::Tensor x = leaf(it.x), weight = leaf(it.weight), bias = leaf(it.bias);
    const auto gradients = [&](const at::Tensor& y) {
      return torch::autograd::grad({y}, {x, weight, bias}, {it.residual.to(device(), dtype)});
    };
    const at::Tensor fused = linear_gelu(x, weight, bias, Epilogue::kFused);
    const at::Tensor plain = linear_gelu(x, weight, bias, Epilogue::kSeparate);
    const double rounding = dtype == at::kFloat ? 2e-6 : 1e-2;
    EXPECT_LE(relative_l2(fused.detach().cpu(), plain.detach().cpu()), rounding);
    const auto found = gradients(fused), expected = gradients(plain);
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_LE(relative_l2(found[i].cpu(), expected[i].cpu()), rounding) << i;
    }
    const torch::NoGradGuard no_grad;
    EXPECT_TRUE(torch::equal(linear_gelu(x, weight, bias, Epilogue::kFused), fused));
  }
}

}  // namespace
}  // namespace ospnext
