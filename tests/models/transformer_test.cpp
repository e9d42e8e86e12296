// The transformer agrees with diffusers and with the padded reference, in fp32 and in bf16.
#include "models/transformer.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "core/torch/random.h"
#include "models/transformer_fixture.h"
#include "support/compare.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-5;  // relative L2, fp32; measured: at most 1e-6

class TransformerOnDevice : public OnDevice {};
INSTANTIATE_ON_DEVICES(TransformerOnDevice);

double report(const std::string& name, double error) {
  std::printf("  %-28s relative L2 %.2e\n", name.c_str(), error);
  return error;
}

TEST_P(TransformerOnDevice, DenseModelsMatchDiffusers) {
  torch::NoGradGuard no_grad;
  for (const char* name : {"dense_narrow_heads", "dense_wide_head"}) {
    const TransformerFixture fixture(std::string(name) + ".safetensors");
    Transformer model = fixture.model(nlohmann::json::object(), device());
    for (int i = 0; fixture.has(std::to_string(i) + ".latent"); ++i) {
      const std::string input = std::to_string(i);
      const double error =
          relative_l2(fixture.run(model, input), fixture.tensor(input + ".velocity"));
      EXPECT_LE(report(name, error), kTolerance) << name << " " << i;
    }
  }
}

TEST_P(TransformerOnDevice, SparseModelsMatchThePaddedReference) {
  torch::NoGradGuard no_grad;
  const TransformerFixture fixture("sparse.safetensors");
  for (const auto& item : fixture.metadata("cases")) {
    const std::string name = item["name"];
    Transformer model = fixture.model(item["settings"], device());
    const double error = relative_l2(fixture.run(model, name), fixture.tensor(name + ".velocity"));
    EXPECT_LE(report(name, error), kTolerance) << name;
  }
}

TEST(Transformer, ItsSpansAreItsBlocksAndTheirParts) {
  const torch::NoGradGuard no_grad;
  const TransformerFixture fixture("sparse.safetensors");
  const std::string name = "dual_end_2_3x5x7";
  Transformer model = fixture.model({{"sparse_ratio", 2}});
  std::vector<std::string> expected = {"embed"};
  for (size_t i = 0; i < model->plan().size(); ++i) {
    const auto [pattern, layout] = model->plan()[i];
    if (i > 0 && layout != model->plan()[i - 1].layout) {
      expected.emplace_back("switch");
    }
    expected.push_back(pattern == Pattern::kFull ? "full" : "sparse " + pattern_name(pattern));
    expected.insert(expected.end(), {"- self-attention", "- text attention", "- feed-forward"});
  }
  expected.emplace_back("head");
  Spans spans(at::kCPU);
  const at::Tensor timestep = fixture.tensor(name + ".timestep");
  const at::Tensor latent = fixture.tensor(name + ".latent");
  const Execution run = model->inference(&spans);
  const TextVectors text = model->embed_text(fixture.tensor(name + ".text"), run);
  const TokenTables tables(model->config(), token_grid(latent), at::kCPU);
  const at::Tensor velocity =
      model->forward(latent, text, model->embed_time(timestep), tables, run);
  std::vector<std::string> found;
  for (const SpanRecord& one : spans.records()) {
    found.push_back((one.kind == SpanKind::kPart ? "- " : "") + one.name);
  }
  EXPECT_EQ(found, expected);
  EXPECT_LE(relative_l2(velocity, fixture.tensor(name + ".velocity")), kTolerance);
}

TEST(Transformer, PlantedMistakesAreNoticed) {
  torch::NoGradGuard no_grad;
  const TransformerFixture fixture("sparse.safetensors");
  const std::string name = "dual_end_2_3x5x7";
  Transformer model = fixture.model({{"sparse_ratio", 2}});
  const at::Tensor velocity = fixture.run(model, name);
  for (const std::string mistake : {"pattern order", "row and column axes", "axis order",
                                    "norm after head split", "norm after rotation", "eps"}) {
    const at::Tensor wrong = fixture.tensor(name + ".wrong." + mistake);
    EXPECT_GE(report(mistake, relative_l2(velocity, wrong)), 10 * kTolerance) << mistake;
  }
  Transformer other_ratio = fixture.model({{"sparse_ratio", 3}});
  EXPECT_GE(relative_l2(fixture.run(other_ratio, name), velocity), 10 * kTolerance);
}

TEST_P(TransformerOnDevice, Bf16IsAtMostTwiceAsWrongAsPlainBf16) {
  torch::NoGradGuard no_grad;
  const TransformerFixture fixture("sparse.safetensors");
  for (const auto& item : fixture.metadata("cases")) {
    const std::string name = item["name"];
    if (!fixture.has(name + ".plain_bf16")) {
      continue;
    }
    const at::Tensor exact = fixture.tensor(name + ".velocity");
    const double plain = relative_l2(fixture.tensor(name + ".plain_bf16"), exact);
    report(name + " plain", plain);
    Transformer model = fixture.model(item["settings"], device());
    model->set_numerics({.dtype = at::kBFloat16});
    const at::Tensor with_float_parameters = fixture.run(model, name);
    EXPECT_LE(report(name + " ours", relative_l2(with_float_parameters, exact)), 2 * plain);
    model->to_inference_precision(at::kBFloat16);
    EXPECT_TRUE(at::equal(fixture.run(model, name), with_float_parameters));
    Transformer loaded = fixture.model(item["settings"], at::dtype(at::kBFloat16).device(device()));
    loaded->set_numerics({.dtype = at::kBFloat16});
    EXPECT_TRUE(at::equal(fixture.run(loaded, name), with_float_parameters));
  }
}

TEST_P(TransformerOnDevice, SamplesOfABatchAreIndependent) {
  torch::NoGradGuard no_grad;
  const TransformerFixture fixture("sparse.safetensors");
  const std::string name = "dual_end_4_2x6x5";
  Transformer model = fixture.model({{"sparse_ratio", 4}}, device());
  const at::Tensor both = fixture.run(model, name);
  for (int64_t i = 0; i < 2; ++i) {
    const auto one = [&](const char* input) {
      return fixture.tensor(name + "." + input).slice(0, i, i + 1).to(device());
    };
    const at::Tensor alone = model->forward(one("latent"), one("text"), one("timestep"));
    EXPECT_LE(relative_l2(alone, both.slice(0, i, i + 1)), 1e-6);
  }
}

TEST_P(TransformerOnDevice, EveryParameterGetsAFiniteGradient) {
  const TransformerFixture fixture("sparse.safetensors");
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Transformer model = fixture.model({{"sparse_ratio", 2}}, device());
    model->set_numerics({.dtype = dtype});
    fixture.run(model, "dual_end_2_3x5x7").square().mean().backward();
    for (const auto& parameter : model->named_parameters()) {
      const at::Tensor& gradient = parameter.value().grad();
      ASSERT_TRUE(gradient.defined()) << parameter.key();
      EXPECT_TRUE(gradient.isfinite().all().item<bool>()) << parameter.key();
      EXPECT_GT(gradient.abs().max().item<double>(), 0) << parameter.key();
    }
  }
}

// The directional derivative along the gradient, by central differences, equals its squared norm.
TEST(Transformer, GradientIsTheSlopeOfTheLoss) {
  const TransformerFixture fixture("sparse.safetensors");
  const std::string name = "dual_end_2_3x5x7";
  Transformer model = fixture.model({{"sparse_ratio", 2}});
  const auto loss = [&] { return fixture.run(model, name).square().mean(); };
  loss().backward();
  torch::NoGradGuard no_grad;
  double squared_norm = 0;
  for (const at::Tensor& parameter : model->parameters()) {
    squared_norm += parameter.grad().square().sum().item<double>();
  }
  const auto moved_loss = [&](double distance) {
    for (at::Tensor& parameter : model->parameters()) {
      parameter.add_(parameter.grad(), distance);
    }
    const double value = loss().item<double>();
    for (at::Tensor& parameter : model->parameters()) {
      parameter.sub_(parameter.grad(), distance);
    }
    return value;
  };
  const double step = 1e-3 / std::sqrt(squared_norm);
  const double slope = (moved_loss(step) - moved_loss(-step)) / (2 * step);
  EXPECT_NEAR(slope / squared_norm, 1, 5e-3);  // rounding of fp32 losses alone causes about 1e-3
}

TEST(Transformer, ResetDrawsTheInitialisationFromTheGeneratorAlone) {
  TransformerConfig config;
  config.dim = 48, config.num_heads = 2, config.ffn_dim = 96, config.num_layers = 2;
  config.text_dim = 40, config.freq_dim = 32;
  Transformer first(config), second(config);
  first->reset_parameters(seeded_generator(5, "weights"));
  second->reset_parameters(seeded_generator(5, "weights"));
  for (const auto& parameter : first->named_parameters()) {
    EXPECT_TRUE(at::equal(parameter.value(), second->named_parameters()[parameter.key()]))
        << parameter.key();
  }
  const auto deviation = [&](const char* name) {
    return first->named_parameters()[name].std().item<double>();
  };
  EXPECT_NEAR(deviation("text_embedding.0.weight"), 1 / std::sqrt(40.0), 0.02);
  EXPECT_NEAR(deviation("time_embedding.2.weight"), 1 / std::sqrt(48.0), 0.02);
  EXPECT_NEAR(deviation("blocks.1.modulation"), 1 / std::sqrt(48.0), 0.03);
  EXPECT_NEAR(deviation("blocks.0.ffn.0.weight"), std::sqrt(2.0 / (48 + 96)), 0.01);
  EXPECT_NEAR(deviation("patch_embedding.weight"), std::sqrt(2.0 / (48 + 64)), 0.01);
  EXPECT_EQ(deviation("head.head.weight"), 0);
  EXPECT_EQ(deviation("blocks.0.norm3.weight"), 0);
}

TEST(Transformer, ParametersAreNamedAndCountedAsInWan1_3B) {
  TransformerConfig config;
  int64_t elements = 0, tensors = 0;
  // All blocks are equal, so two blocks are enough to count those of 30: 825 tensors,
  // 1,418,996,800 numbers.
  config.num_layers = 2;
  Transformer model(config);
  std::map<std::string, int64_t> per_block;
  for (const auto& parameter : model->named_parameters()) {
    const bool repeated = parameter.key().starts_with("blocks.");
    if (!parameter.key().starts_with("blocks.1.")) {
      elements += parameter.value().numel() * (repeated ? 30 : 1);
      tensors += repeated ? 30 : 1;
    }
  }
  EXPECT_EQ(tensors, 825);
  EXPECT_EQ(elements, 1418996800);
}

TEST(Transformer, RefusesOddSizesAndWrongShapes) {
  const TransformerFixture fixture("sparse.safetensors");
  Transformer model = fixture.model({{"sparse_ratio", 2}});
  const at::Tensor text = at::zeros({1, 3, 12}), time = at::zeros({1});
  EXPECT_THROW(model->forward(at::zeros({1, 4, 1, 3, 4}), text, time), c10::Error);
  EXPECT_THROW(model->forward(at::zeros({1, 5, 1, 4, 4}), text, time), c10::Error);
  EXPECT_THROW(model->forward(at::zeros({2, 4, 1, 4, 4}), text, time), c10::Error);
  EXPECT_THROW(model->forward(at::zeros({1, 4, 1, 4, 4}), text, at::zeros({2})), c10::Error);
}

TEST(PadText, FewRowsStandForAllOfThem) {
  const at::Tensor rows = at::randn({2, 7, 3}, seeded_generator(1, "rows"));
  const TextRows few = pad_text(rows, 512);
  EXPECT_EQ(few.rows.sizes(), (at::IntArrayRef{2, 16, 3}));
  EXPECT_EQ(few.log_weight.narrow(0, 0, 14).count_nonzero().item<int64_t>(), 0);
  const at::Tensor last = few.log_weight.narrow(0, 14, 2);
  EXPECT_NEAR(last.to(at::kDouble).exp().sum().item<double>(), 512 - 14, 1e-3);
  // also when the weights are rounded to bf16, with a relative error of at most 5e-4
  EXPECT_NEAR(last.to(at::kBFloat16).to(at::kDouble).exp().sum().item<double>() / (512 - 14), 1,
              5e-4);
  EXPECT_TRUE(at::equal(few.rows.narrow(1, 0, 7), rows));
  EXPECT_EQ(few.rows.narrow(1, 7, 9).count_nonzero().item<int64_t>(), 0);
  for (const int64_t text_len : {7, 12, 16}) {
    const TextRows all = pad_text(rows, text_len);
    EXPECT_EQ(all.rows.size(1), text_len);
    EXPECT_FALSE(all.log_weight.defined());
  }
  EXPECT_THROW(pad_text(rows, 6), c10::Error);
}

TEST_P(TransformerOnDevice, PaddedTextInFewRowsGivesTheSameVelocity) {
  torch::NoGradGuard no_grad;
  const TransformerFixture fixture("sparse.safetensors");
  const std::string name = "dual_end_2_3x5x7";
  Transformer model = fixture.model({{"sparse_ratio", 2}}, device());
  const auto on_device = [&](const std::string& part) {
    return fixture.tensor(name + "." + part).to(device());
  };
  const at::Tensor latent = on_device("latent"), time = on_device("timestep");
  const at::Tensor text = on_device("text");
  const at::Tensor all = at::constant_pad_nd(text, {0, 0, 0, 512 - text.size(1)});
  const at::Tensor expected = model->forward(latent, all, time);
  EXPECT_LE(
      report("few rows", relative_l2(model->forward(latent, pad_text(text, 512), time), expected)),
      kTolerance);
  EXPECT_GE(relative_l2(model->forward(latent, pad_text(text, 480), time), expected), kTolerance);
}

TEST(Patchify, UnpatchifyPutsChannelsFastest) {
  const at::Tensor latent = at::arange(2 * 3 * 2 * 4 * 6).view({2, 3, 2, 4, 6});
  const at::Tensor patches = patchify(latent);  // [2, 12, 12]; a patch is [c, row, column]
  const at::Tensor channels_last = patches.view({2, 12, 3, 4}).transpose(2, 3).flatten(2);
  EXPECT_TRUE(at::equal(unpatchify(channels_last, {2, 2, 3}), latent));
}

}  // namespace
}  // namespace ospnext
