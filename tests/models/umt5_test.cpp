// Compares the UMT5 encoder with transformers on small random weights
// (tools/make_text_fixtures.py).
#include "models/umt5.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>

#include "core/error.h"
#include "core/fields.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-4;  // of the largest value; float32 sums in another order

using Tensors = std::map<std::string, at::Tensor>;

const Tensors& fixture() {
  static const Tensors tensors = read_tensors(fixture_path("text/umt5.safetensors"));
  return tensors;
}

Umt5Config fixture_config() {
  std::ifstream file(fixture_path("text/umt5_config.json"));
  return umt5_config_from_json(nlohmann::json::parse(file), "umt5_config.json");
}

Umt5Encoder fixture_encoder(const Umt5Config& config = fixture_config()) {
  const torch::NoGradGuard no_grad;
  Umt5Encoder encoder(config);
  for (auto& parameter : encoder->named_parameters()) {
    parameter.value().copy_(fixture().at("weight:" + parameter.key()));
  }
  return encoder;
}

at::Tensor run(const Umt5Encoder& encoder, const at::Tensor& ids = fixture().at("ids"),
               const at::Tensor& mask = fixture().at("mask")) {
  const torch::NoGradGuard no_grad;
  return encoder->forward(ids, mask);
}

// The largest difference, relative to the largest expected value.
double difference(const at::Tensor& found, const at::Tensor& expected) {
  const at::Tensor reference = expected.to(at::kDouble);
  return ((found.to(at::kDouble) - reference).abs().max() / reference.abs().max()).item<double>();
}

double difference_to_transformers(const Umt5Encoder& encoder) {
  return difference(run(encoder), fixture().at("output"));
}

TEST(Umt5Buckets, EqualTheCheckedValues) {
  const at::Tensor buckets = relative_position_buckets(501, 32, 128);
  const std::map<int64_t, int64_t> expected{{0, 0},    {-1, 1},   {1, 17},   {7, 23},  {8, 24},
                                            {-8, 8},   {11, 24},  {12, 25},  {16, 26}, {-16, 10},
                                            {23, 27},  {32, 28},  {64, 30},  {90, 30}, {91, 31},
                                            {127, 31}, {128, 31}, {-500, 15}};
  for (const auto& [relative, bucket] : expected) {
    const int64_t query = relative < 0 ? 500 : 0;
    EXPECT_EQ(buckets[query][query + relative].item<int64_t>(), bucket) << relative;
  }
}

TEST(Umt5Encoder, HasWansParameterNames) {
  Umt5Config config = fixture_config();
  config.num_layers = 1;
  std::set<std::string> names;
  for (const auto& parameter : Umt5Encoder(config)->named_parameters()) {
    names.insert(parameter.key());
  }
  EXPECT_EQ(names, (std::set<std::string>{
                       "token_embedding.weight", "blocks.0.norm1.weight", "blocks.0.attn.q.weight",
                       "blocks.0.attn.k.weight", "blocks.0.attn.v.weight", "blocks.0.attn.o.weight",
                       "blocks.0.pos_embedding.embedding.weight", "blocks.0.norm2.weight",
                       "blocks.0.ffn.gate.0.weight", "blocks.0.ffn.fc1.weight",
                       "blocks.0.ffn.fc2.weight", "norm.weight"}));
}

TEST(Umt5Encoder, EqualsTransformersInFloat32) {
  const double found = difference_to_transformers(fixture_encoder());
  RecordProperty("difference", std::to_string(found));
  std::printf("umt5 float32 against transformers: %.2e of the largest value\n", found);
  EXPECT_LE(found, kTolerance);
}

TEST(Umt5Encoder, InBf16IsAtMostTwiceAsWrongAsTransformers) {
  Umt5Encoder encoder = fixture_encoder();
  encoder->to(at::kBFloat16);
  const at::Tensor output = run(encoder);
  EXPECT_EQ(output.scalar_type(), at::kBFloat16);
  const at::Tensor& exact = fixture().at("output");
  const double found = difference(output, exact);
  const double theirs = difference(fixture().at("output_bf16"), exact);
  std::printf("umt5 bf16 error: %.2e, transformers: %.2e\n", found, theirs);
  EXPECT_LE(found, 2 * theirs);
}

TEST(Umt5Encoder, ComputesInTheGivenDtypeWithWeightsOfAnother) {
  Umt5Encoder encoder = fixture_encoder();
  encoder->set_compute_dtype(at::kBFloat16);
  const at::Tensor mixed = run(encoder);
  EXPECT_EQ(mixed.scalar_type(), at::kBFloat16);
  encoder->to(at::kBFloat16);
  EXPECT_TRUE(at::equal(mixed, run(encoder)));
}

TEST(Umt5Encoder, GradientsEqualTransformers) {
  const Umt5Encoder encoder = fixture_encoder();
  const at::Tensor output = encoder->forward(fixture().at("ids"), fixture().at("mask"));
  (output * fixture().at("direction")).sum().backward();
  double worst = 0;
  for (const auto& parameter : encoder->named_parameters()) {
    const double found =
        difference(parameter.value().grad(), fixture().at("gradient:" + parameter.key()));
    EXPECT_LE(found, kTolerance) << parameter.key();
    worst = std::max(worst, found);
  }
  std::printf("umt5 gradients against transformers: %.2e of the largest value\n", worst);
}

TEST(Umt5Encoder, RowsOfPaddingAreZeroAndPaddingChangesNothing) {
  const Umt5Encoder encoder = fixture_encoder();
  const at::Tensor output = run(encoder);
  const at::Tensor padding = fixture().at("mask").eq(0);
  EXPECT_EQ(output.index({padding}).abs().max().item<float>(), 0.0F);
  const at::Tensor ids = fixture().at("ids").slice(0, 2, 3).slice(1, 0, 37);  // [1, 37]
  EXPECT_LE(
      difference(run(encoder, ids, at::ones_like(ids)), output.slice(0, 2, 3).slice(1, 0, 37)),
      kTolerance);
}

TEST(Umt5Encoder, PlantedMistakesAreCaught) {
  const torch::NoGradGuard no_grad;
  Umt5Encoder shifted = fixture_encoder();  // every bucket off by one
  Umt5Encoder scaled = fixture_encoder();   // logits divided by sqrt(D)
  for (int64_t i = 0; i < fixture_config().num_layers; ++i) {
    at::Tensor& bias = shifted->blocks->at<Umt5BlockImpl>(i).pos_embedding->embedding->weight;
    bias.copy_(at::roll(bias, 1, 0));
    scaled->blocks->at<Umt5BlockImpl>(i).attn->q->weight.mul_(1 / std::sqrt(12.0));
  }
  Umt5Config config = fixture_config();
  config.layer_norm_epsilon = 1e-5;
  EXPECT_GT(difference_to_transformers(shifted), 10 * kTolerance);
  EXPECT_GT(difference_to_transformers(scaled), 10 * kTolerance);
  EXPECT_GT(difference_to_transformers(fixture_encoder(config)), 10 * kTolerance);
  const at::Tensor& ids = fixture().at("ids");
  const at::Tensor unmasked = run(fixture_encoder(), ids, at::ones_like(ids));
  EXPECT_GT(difference(unmasked * fixture().at("mask").unsqueeze(-1), fixture().at("output")),
            10 * kTolerance);
  // other logarithmic buckets
  config = fixture_config();
  config.relative_attention_max_distance = 64;
  EXPECT_GT(difference_to_transformers(fixture_encoder(config)), 10 * kTolerance);
}

TEST(Umt5Encoder, InitialisationIsSeededAndHasT5sDeviations) {
  Umt5Config config{
      .vocab_size = 500, .d_model = 64, .num_heads = 8, .d_kv = 16, .d_ff = 96, .num_layers = 2};
  Umt5Encoder first(config);
  Umt5Encoder second(config);
  first->reset_parameters(seeded_generator(3, "text encoder"));
  second->reset_parameters(seeded_generator(3, "text encoder"));
  for (const auto& parameter : first->named_parameters()) {
    EXPECT_TRUE(at::equal(parameter.value(), second->named_parameters()[parameter.key()]));
  }
  const auto deviation = [](const Umt5Weight& layer) { return layer->weight.std().item<double>(); };
  const auto& block = first->blocks->at<Umt5BlockImpl>(1);
  EXPECT_NEAR(deviation(first->token_embedding), 1.0, 0.02);
  EXPECT_NEAR(deviation(block.attn->q) * std::sqrt(64.0 * 16.0), 1.0, 0.05);
  EXPECT_NEAR(deviation(block.attn->o) * std::sqrt(128.0), 1.0, 0.05);
  EXPECT_NEAR(deviation(block.ffn->fc2) * std::sqrt(96.0), 1.0, 0.05);
  EXPECT_EQ(block.norm1->weight.min().item<float>(), 1.0F);
  const at::Tensor ids = at::randint(500, {2, 9}, at::kLong);
  const at::Tensor output = run(first, ids, at::ones_like(ids));
  EXPECT_NEAR(output.square().mean().item<double>(), 1.0, 0.01);
}

TensorShapes fixture_shapes() {
  const std::string mark = "weight:";
  TensorShapes shapes;
  for (const auto& [name, tensor] : fixture()) {
    if (name.starts_with(mark)) {
      shapes[name.substr(mark.size())] = tensor.sizes().vec();
    }
  }
  return shapes;
}

TEST(Umt5Config, IsInferredFromShapes) {
  const TensorShapes shapes = fixture_shapes();
  EXPECT_EQ(fields_to_json(infer_umt5_config(shapes, "file")), fields_to_json(fixture_config()));
  EXPECT_THROW(infer_umt5_config({}, "file"), InputError);
}

TEST(Umt5Config, NamesABlockThatIsMissing) {
  const auto refusal = [](const TensorShapes& shapes) -> std::string {
    try {
      infer_umt5_config(shapes, "file");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  TensorShapes shapes = fixture_shapes();
  shapes["blocks." + std::to_string(fixture_config().num_layers + 1) + ".attn.q.weight"] = {4, 4};
  EXPECT_EQ(refusal(shapes), "file: 1 of " + std::to_string(fixture_config().num_layers + 2) +
                                 " blocks are missing: blocks." +
                                 std::to_string(fixture_config().num_layers));
  shapes = fixture_shapes();
  shapes["blocks.9999.x"] = {};
  EXPECT_NE(refusal(shapes).find("of 10000 blocks are missing: blocks." +
                                 std::to_string(fixture_config().num_layers) + ", "),
            std::string::npos);
}

TEST(Umt5Config, RefusesWhatIsNotUmt5) {
  const auto parse = [](const char* text) {
    return umt5_config_from_json(nlohmann::json::parse(text), "config.json");
  };
  EXPECT_NO_THROW(
      parse(R"({"num_layers": 2, "architectures": ["x"], "feed_forward_proj": "gated-gelu"})"));
  for (const char* text :
       {R"({"num_layers": 0})", R"({"d_model": -4})", R"({"vocab_size": 1e30})", R"({"d_kv": "x"})",
        R"({"model_type": "t5"})", R"({"feed_forward_proj": "relu"})", R"([1])",
        R"({"relative_attention_num_buckets": 30})", R"({"relative_attention_max_distance": 8})",
        R"({"layer_norm_epsilon": null})"}) {
    EXPECT_THROW(parse(text), InputError) << text;
  }
}

}  // namespace
}  // namespace ospnext
