// HiFloat8 in the transformer: which layers round, the result of rounded attention, and FP8 tensor
// cores.
#include "models/transformer_hif8.h"

#include <gtest/gtest.h>

#include "core/torch/random.h"
#include "kernels/attention.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"
#include "support/compare.h"
#include "support/on_fp8_device.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

at::Tensor random(at::IntArrayRef shape, uint64_t seed) {
  return torch::randn(shape, seeded_generator(seed, "hif8 transformer test"), torch::kFloat32);
}

struct Rounded {
  Transformer transformer{tiny_transformer_config()};
  std::map<std::string, float> scales;

  explicit Rounded(const Hif8Rounding& rounding) {
    const torch::NoGradGuard no_grad;
    const auto weights = random_weights(*transformer, 1);
    for (auto& item : transformer->named_parameters()) {
      at::Tensor weight = weights.at(item.key());
      if (rounding.linears && hif8::is_rounded_weight(item.key())) {
        const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_tensor(weight));
        scales[item.key()] = scale.item<float>();
        weight = hif8::code_values(weight, scale);
      }
      item.value().copy_(weight);
    }
    round_to_hif8(transformer, rounding, scales);
  }

  at::Tensor run() {
    const torch::NoGradGuard no_grad;
    return transformer->forward(random({2, 16, 2, 4, 6}, 4), random({2, 512, 32}, 5),
                                torch::tensor({900.F, 200.F}));
  }
};

TEST(TransformerHif8, RoundsThePolicysLayersAndNoOthers) {
  Rounded both({.linears = true, .attention = true});
  int64_t linears = 0;
  for (const auto& item : both.transformer->named_modules("", false)) {
    if (auto* linear = item.value()->as<LinearImpl>()) {
      EXPECT_EQ(linear->hif8_scale.has_value(), hif8::is_rounded_weight(item.key() + ".weight"));
      linears += linear->hif8_scale.has_value();
    }
  }
  EXPECT_EQ(linears, 20);  // 10 in each of two blocks
  const Hif8Rounding& rounding = both.transformer->numerics().hif8;
  EXPECT_TRUE(rounding.linears && rounding.attention);
  EXPECT_EQ(rounding.amax_to, 15.0);
}

TEST(TransformerHif8, EachKindOfRoundingMovesTheOutputALittle) {
  const at::Tensor plain = Rounded({}).run();
  const at::Tensor linears = Rounded({.linears = true}).run();
  const at::Tensor attention = Rounded({.attention = true}).run();
  const at::Tensor both = Rounded({.linears = true, .attention = true}).run();
  for (const at::Tensor& one : {linears, attention, both}) {
    EXPECT_GT(relative_l2(one, plain), 1e-4);
    EXPECT_LT(relative_l2(one, plain), 0.1);
  }
  EXPECT_GT(relative_l2(both, linears), 1e-4);
  EXPECT_TRUE(torch::equal(Rounded({.linears = true}).run(), linears));
}

// Compares attention with the same steps on rounded values, written out.
TEST(TransformerHif8, AttentionIsTheOneWrittenOut) {
  Rounded it({.linears = true, .attention = true});
  const torch::NoGradGuard no_grad;
  const std::string prefix = "blocks.0.cross_attn.";
  auto& layer = it.transformer->blocks->at<TransformerBlockImpl>(0).cross_attn;
  const at::Tensor x = random({2, 24, 128}, 6), text = random({2, 9, 128}, 7) * 3;
  const auto linear = [&](const Linear& module, const char* name, const at::Tensor& input) {
    const float scale = it.scales.at(prefix + name + ".weight");
    return at::linear(hif8::round_samples(input), module->weight / scale, module->bias);
  };
  const auto expected = [&](bool round_attention) {
    const auto heads = [&](const at::Tensor& y) {
      const at::Tensor split = y.unflatten(2, {1, -1});  // [B, L, H, D]
      return round_attention ? hif8::round_samples(split) : split;
    };
    const at::Tensor out = attention(heads(layer->norm_q->forward(linear(layer->q, "q", x))),
                                     heads(layer->norm_k->forward(linear(layer->k, "k", text))),
                                     heads(linear(layer->v, "v", text)));
    return linear(layer->o, "o", out.flatten(2));
  };
  const Execution run{it.transformer->numerics()};
  const at::Tensor found = layer->attend_text(x, layer->text_keys(text, run), run);
  EXPECT_LT(relative_l2(found, expected(true)), 1e-5);
  EXPECT_GT(relative_l2(found, expected(false)), 1e-3);  // planted mistake: no rounding
}

TEST(TransformerHif8, AMissingScaleIsAMistake) {
  Transformer transformer(tiny_transformer_config());
  EXPECT_THROW(round_to_hif8(transformer, {.linears = true}, {}), c10::Error);
}

TEST(TransformerHif8, WeightsInMemoryAreRoundedAsThoseOfAFile) {
  Rounded from_file({.linears = true});
  Transformer in_memory = random_transformer(tiny_transformer_config(), 1);
  round_to_hif8(in_memory, {.linears = true});
  const auto rounded = in_memory->named_parameters();
  for (const auto& item : from_file.transformer->named_parameters()) {
    EXPECT_TRUE(torch::equal(rounded[item.key()], item.value())) << item.key();
  }
}

class TransformerHif8OnDevice : public OnFp8Device {};
INSTANTIATE_ON_DEVICES(TransformerHif8OnDevice);

TEST_P(TransformerHif8OnDevice, TensorCoresComputeWhatTheSimulationDoes) {
  const torch::NoGradGuard no_grad;
  const auto run = [&](const Hif8Rounding& rounding) {
    Transformer transformer = random_transformer(tiny_transformer_config(), 1);
    transformer->to(device());
    transformer->to_inference_precision(at::kBFloat16);
    transformer->set_numerics({.dtype = at::kBFloat16});
    round_to_hif8(transformer, rounding);
    return transformer
        ->forward(random({2, 16, 2, 4, 6}, 4).to(device()), random({2, 512, 32}, 5).to(device()),
                  torch::tensor({900.F, 200.F}).to(device()))
        .cpu();
  };
  const at::Tensor simulated = run({.linears = true, .attention = true});
  const at::Tensor unrounded = run({});
  const double cost = relative_l2(simulated, unrounded);
  for (const auto products : {hif8::Products::kTensorCores, hif8::Products::kTensorCoresP8}) {
    SCOPED_TRACE(static_cast<int>(products));
    const at::Tensor fast = run({.linears = true, .attention = true, .products = products});
    // If sums differ in the last bit, the next value may be rounded to another code. The total
    // error of rounding stays the same.
    EXPECT_LT(relative_l2(fast, simulated), cost);
    EXPECT_GT(relative_l2(fast, unrounded), cost / 1.25);
    EXPECT_LT(relative_l2(fast, unrounded), cost * 1.25);
  }
}

}  // namespace
}  // namespace ospnext
