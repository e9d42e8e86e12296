// HiFloat8 linear layers against a float64 product of the codes, and the weights that are rounded.
#include "quant/hif8_linear.h"

#include <gtest/gtest.h>
#include <torch/autograd.h>

#include "core/error.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"
#include "support/compare.h"
#include "support/on_fp8_device.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

at::Tensor random(at::IntArrayRef shape, uint64_t seed) {
  return torch::randn(shape, seeded_generator(seed, "hif8 linear test"), torch::kFloat32);
}

// A layer [out, in], and inputs [B, L, in] with another range in each sample.
struct Case {
  at::Tensor x, weight, bias;
  at::Tensor weight_values;  // of its codes
  float weight_scale = 0;

  Case(int64_t B, int64_t L, int64_t in, int64_t out) {
    x = random({B, L, in}, 1) * torch::logspace(-2, 1, B).view({B, 1, 1}) + 0.3;
    weight = random({out, in}, 2) / std::sqrt(static_cast<double>(in));
    bias = random({out}, 3);
    const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_tensor(weight));
    weight_values = hif8::code_values(weight, scale);
    weight_scale = scale.item<float>();
  }

  // The simulated layer.
  at::Tensor simulated(const at::Tensor& input) const {
    return hif8::linear(hif8::round_input(input, 15, hif8::Products::kSimulated), weight_values,
                        weight_scale, bias, Epilogue::kFused);
  }

  // The layer on FP8 tensor cores of a device.
  at::Tensor in_fp8(const at::Tensor& input, at::Device device,
                    const Residual& residual = {}) const {
    return hif8::linear(hif8::round_input(input.to(device), 15, hif8::Products::kTensorCores),
                        hif8::fp8_weight(weight_values.to(device)), weight_scale, bias.to(device),
                        Epilogue::kFused, residual);
  }

  // The layer computed from decoded codes in float64, for an input of any dtype. -> [B, L, out]
  at::Tensor exact(const at::Tensor& input, double amax_to = 15) const {
    std::vector<at::Tensor> samples;
    for (int64_t b = 0; b < input.size(0); ++b) {
      const at::Tensor scale = hif8::scale_to(amax_to, hif8::amax_of_tensor(input[b]));
      const at::Tensor codes = hif8::decode(hif8::encode(input[b], scale)).to(torch::kFloat64);
      samples.push_back(torch::matmul(codes, weight_values.to(torch::kFloat64).t()) /
                            (scale.to(torch::kFloat64) * static_cast<double>(weight_scale)) +
                        bias.to(torch::kFloat64));
    }
    return torch::stack(samples);  // [B, L, out]
  }
};

TEST(Hif8Linear, IsTheProductOfTheCodes) {
  for (const auto& [B, L, in, out] :
       {std::array<int64_t, 4>{3, 7, 96, 40}, std::array<int64_t, 4>{1, 1, 13824, 24}}) {
    const Case it(B, L, in, out);
    const at::Tensor y = it.simulated(it.x);
    EXPECT_EQ(y.scalar_type(), torch::kFloat32);
    const double error = relative_max(y, it.exact(it.x));
    EXPECT_LT(error, 2e-6);
    EXPECT_GT(relative_max(y, it.exact(it.x, 14)), 1e-4);  // planted: another scale
    const at::Tensor unrounded = at::linear(it.x, it.weight, it.bias);
    EXPECT_GT(relative_max(y, unrounded), 1e-3);
    EXPECT_LT(relative_l2(y, unrounded), 0.1);
    RecordProperty("error", std::to_string(error));
  }
}

TEST(Hif8Linear, InBf16OnlySumAndResultAreRounded) {
  const Case it(2, 16, 1024, 64);
  const at::Tensor x = it.x.to(at::kBFloat16);
  const at::Tensor exact = it.exact(x);
  const at::Tensor y = it.simulated(x);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  const at::Tensor rounded_weight = (it.weight_values / it.weight_scale).to(at::kBFloat16);
  const at::Tensor plain = at::linear(hif8::round_samples(x), rounded_weight,
                                      it.bias.to(at::kBFloat16));  // operands rounded to bf16
  EXPECT_LT(relative_l2(y, exact), 1.2 * relative_l2(plain, exact));
  EXPECT_LT(relative_l2(y, exact), 4e-3);  // two roundings of at most 2^-9
}

class Hif8LinearOnDevice : public OnFp8Device {};
INSTANTIATE_ON_DEVICES(Hif8LinearOnDevice);

// The operands are the codes, except for the few that E4M3 cannot represent. The sum is rounded
// once.
TEST_P(Hif8LinearOnDevice, InFp8IsTheProductOfTheCodes) {
  for (const auto& [B, L, in, out] :
       {std::array<int64_t, 4>{3, 7, 96, 48}, std::array<int64_t, 4>{1, 1, 13824, 32},
        std::array<int64_t, 4>{2, 130, 512, 256},
        std::array<int64_t, 4>{2, 4096, 64, 32}}) {  // a product for each sample
    const Case it(B, L, in, out);
    const at::Tensor x = it.x.to(at::kBFloat16);
    EXPECT_EQ(hif8::fp8_weight(it.weight_values).scalar_type(), at::kFloat8_e4m3fn);
    const auto run = [&](const at::Tensor& input) { return it.in_fp8(input, device()).cpu(); };
    const at::Tensor y = run(x);
    EXPECT_EQ(y.scalar_type(), at::kBFloat16);
    const at::Tensor exact = it.exact(x);
    const double error = relative_l2(y, exact);
    RecordProperty("error", std::to_string(error));
    EXPECT_LT(error, 3e-3);  // one rounding of at most 2^-9, and one of the bias
    EXPECT_GT(relative_l2(y, it.exact(x, 14)), 5e-3);            // planted: another scale
    EXPECT_TRUE(torch::equal(run(x.narrow(0, 0, 1))[0], y[0]));  // the same alone
  }
  const Case it(2, 5, 64, 32);
  const at::Tensor none = it.in_fp8(torch::zeros({2, 0, 64}, at::kBFloat16), device());
  EXPECT_EQ(none.sizes(), (at::IntArrayRef{2, 0, 32}));
}

// Added to a residual, with and without a gate. The sum is rounded once, the branch at most once
// before.
TEST_P(Hif8LinearOnDevice, InFp8AddsToAResidual) {
  for (const auto& [B, L, in, out] :
       {std::array<int64_t, 4>{3, 7, 96, 48}, std::array<int64_t, 4>{2, 130, 512, 256}}) {
    const Case it(B, L, in, out);
    const at::Tensor x = it.x.to(at::kBFloat16);
    const at::Tensor residual = random({B, L, out}, 4).to(at::kBFloat16);
    const at::Tensor gate = random({B, 1, out}, 5);
    for (const bool gated : {false, true}) {
      const auto run = [&](bool overwrite) {
        return it.in_fp8(
            x, device(),
            {residual.to(device()).clone(), gated ? gate.to(device()) : at::Tensor(), overwrite});
      };
      const at::Tensor y = run(false);
      const at::Tensor exact = residual + (gated ? it.exact(x) * gate : it.exact(x));
      EXPECT_LT(relative_l2(y.cpu(), exact), 4e-3) << gated;  // two roundings of at most 2^-9
      EXPECT_TRUE(torch::equal(run(true), y)) << gated;
    }
  }
}

TEST_P(Hif8LinearOnDevice, TheLargestGeluIsFoundWhereverItComesFrom) {
  const auto expect_largest = [&](const at::Tensor& x) {
    for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
      const at::Tensor narrow = x.to(device(), dtype);
      const at::Tensor largest = at::gelu(narrow, "tanh").abs().flatten(1).amax(1);  // [B]
      const at::Tensor found = hif8::amax_of_samples(narrow, hif8::Of::kGelu);
      EXPECT_LE((found - largest).abs().max().item<double>(), 1e-5 * largest.max().item<double>());
    }
  };
  const at::Tensor x = random({3, 50, 96}, 9);
  expect_largest(x * 4);
  expect_largest(-(x * 4).abs());    // all below 0: the minimum of GELU at -0.75 decides
  expect_largest(x.clamp(-3, 0.1));  // positive, but smaller than this minimum
  expect_largest(torch::zeros({2, 8, 8}));
  at::Tensor last = x.clamp(-3, 0);  // one large input, in the last place
  last.flatten()[-1] = 9;
  expect_largest(last);
  at::Tensor broken = x.clone();
  broken.flatten()[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(hif8::amax_of_samples(broken.to(device()), hif8::Of::kGelu)[0].isnan().item<bool>());
}

TEST_P(Hif8LinearOnDevice, TheInputOfGeluIsThatOfItsStoredResult) {
  const at::Tensor x = (random({2, 50, 96}, 8) * 4).to(device());
  for (const at::ScalarType dtype : {torch::kFloat32, torch::kBFloat16}) {
    const at::Tensor narrow = x.to(dtype);
    const auto products = hif8::Products::kTensorCores;
    const hif8::Input stored = hif8::round_input(at::gelu(narrow, "tanh"), 15, products);
    const hif8::Input fused = hif8::round_input(narrow, 15, products, {}, hif8::Of::kGelu);
    EXPECT_LT(relative_max(fused.scale, stored.scale), 1e-5);
    // Between two codes, the last bit of GELU decides. The codes then differ by one step.
    const at::Tensor a = stored.codes.to(torch::kFloat32), b = fused.codes.to(torch::kFloat32);
    EXPECT_LT((a != b).to(torch::kFloat32).mean().item<double>(), 2e-3);
    EXPECT_LT(((a - b).abs() / a.abs().clamp_min(0.125)).max().item<double>(), 0.26);
  }
}

TEST(Hif8Linear, ASampleDoesNotDependOnItsBatch) {
  const Case it(3, 5, 64, 32);
  const at::Tensor whole = it.simulated(it.x);
  for (int64_t b = 0; b < 3; ++b) {
    const at::Tensor alone = it.simulated(it.x.narrow(0, b, 1));
    EXPECT_LT(relative_max(alone[0], whole[b]), 1e-6);
  }
  const at::Tensor none = it.simulated(torch::zeros({2, 0, 64}));
  EXPECT_EQ(none.sizes(), (at::IntArrayRef{2, 0, 32}));
}

// The gradient of a layer is that of the same layer on the values of the codes.
void expect_straight_through(bool fp8, at::Device device) {
  const Case it(2, 48, 96, 48);
  const auto dtype = fp8 ? at::kBFloat16 : at::kFloat;
  const auto leaf = [&](const at::Tensor& x) {
    return x.to(device, dtype).detach().clone().requires_grad_();
  };
  const at::Tensor x = leaf(it.x), bias = leaf(it.bias), residual = leaf(random({2, 48, 48}, 4));
  const at::Tensor gate =
      random({2, 1, 48}, 5).to(device).requires_grad_();  // float32 in every dtype
  const auto products = fp8 ? hif8::Products::kTensorCores : hif8::Products::kSimulated;
  const at::Tensor values = it.weight_values.to(device);
  const at::Tensor weight = fp8 ? hif8::fp8_weight(values) : values;
  const auto gradients = [&](const at::Tensor& y) {
    const at::Tensor by_y = random({2, 48, 48}, 6).to(device, dtype);
    return torch::autograd::grad({y}, {x, bias, residual, gate}, {by_y});
  };
  const auto found =
      gradients(hif8::linear(hif8::round_input(x, 15, products), weight, it.weight_scale, bias,
                             Epilogue::kFused, {residual, gate}));
  const at::Tensor rounded = x + (hif8::round_samples(x.detach()) - x).detach();
  const at::Tensor plain = (values / it.weight_scale).to(dtype);
  const auto expected = gradients(add_branch({residual, gate}, at::linear(rounded, plain, bias)));
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_LT(relative_l2(found[i].cpu(), expected[i].cpu()), fp8 ? 1e-2 : 1e-5) << i;
  }
}

TEST(Hif8Linear, ItsGradientPassesThroughTheRounding) {
  expect_straight_through(false, at::kCPU);
}

TEST_P(Hif8LinearOnDevice, ItsGradientPassesThroughTheRounding) {
  expect_straight_through(true, device());
}

TEST(Hif8Weights, ThePolicyNamesTheBlocksMatrices) {
  for (const char* name :
       {"blocks.0.self_attn.q.weight", "blocks.39.cross_attn.o.weight", "blocks.7.ffn.0.weight",
        "blocks.7.ffn.2.weight", "blocks.1.cross_attn.k.weight"}) {
    EXPECT_TRUE(hif8::is_rounded_weight(name)) << name;
  }
  for (const char* name :
       {"blocks.0.self_attn.q.bias", "blocks.0.self_attn.norm_q.weight", "blocks.0.norm3.weight",
        "head.head.weight", "text_embedding.0.weight", "time_embedding.2.weight",
        "time_projection.1.weight", "patch_embedding.weight", "blocks.weight", "blocks.0.weight",
        "blocks..weight", "blocks.ffn.0.weight", "x.blocks.0.ffn.0.weight", ""}) {
    EXPECT_FALSE(hif8::is_rounded_weight(name)) << name;
  }
}

class Hif8Checkpoint : public testing::Test {
 protected:
  std::string refusal(const std::map<std::string, at::Tensor>& tensors) const {
    save_safetensors(file_, tensors);
    try {
      hif8::decoded_sources(open_checkpoint(file_), [](const std::string& name) { return name; });
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }
  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "a.safetensors";
};

TEST_F(Hif8Checkpoint, CodesComeDecodedAndKeepTheirScale) {
  const at::Tensor codes = torch::arange(0, 0x6F).to(torch::kUInt8).view({37, 3});
  save_safetensors(file_, {{"w", codes}, {"w_hif8_scale", torch::tensor(3.5F)}});
  const Checkpoint checkpoint = open_checkpoint(file_);
  const KeyMap keys = [](const std::string& name) { return name == "w" ? name : ""; };
  const WeightSource source = hif8::decoded_sources(checkpoint, keys).at("w");
  at::Tensor weight;
  stream_weight(source, checkpoint, {}, at::kCPU,
                [&](int64_t, const at::Tensor& rows) { weight = rows.clone(); });
  EXPECT_TRUE(weight.equal(hif8::decode(codes) / 3.5F));
  EXPECT_EQ(hif8::weight_scale(source, checkpoint, {}, at::kCPU, 15), 3.5F);
  const WeightSource plain = weight_sources(checkpoint, keys).at("w");
  EXPECT_THROW(stream_weight(plain, checkpoint, {}, at::kCPU, [](int64_t, const at::Tensor&) {}),
               c10::Error);  // codes are never read as numbers
}

TEST_F(Hif8Checkpoint, BrokenScalesAreRefused) {
  const at::Tensor codes = torch::zeros({2, 2}, torch::kUInt8), scale = torch::tensor(1.F);
  EXPECT_EQ(refusal({{"w", codes}, {"w_hif8_scale", scale}}), "");
  EXPECT_NE(refusal({{"w_hif8_scale", scale}}).find("\"w\", which is not there"),
            std::string::npos);
  EXPECT_NE(refusal({{"w", torch::zeros({2, 2})}, {"w_hif8_scale", scale}})
                .find("which is of F32, expected HiF8 codes in U8"),
            std::string::npos);
  for (const at::Tensor& bad : {torch::tensor(0.F), torch::tensor(-1.F), torch::tensor(NAN),
                                torch::tensor({1.F, 2.F}), torch::tensor(1, torch::kInt32)}) {
    EXPECT_NE(refusal({{"w", codes}, {"w_hif8_scale", bad}})
                  .find("expected one positive F32 number as scale"),
              std::string::npos);
  }
  EXPECT_NE(refusal({{"v", codes}, {"w", codes}, {"w_hif8_scale", scale}})
                .find("\"v\" has no _hif8_scale"),
            std::string::npos);
}

}  // namespace
}  // namespace ospnext
