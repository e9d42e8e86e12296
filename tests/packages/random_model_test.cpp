// Random checkpoints: repeatable, of the right spread, and loadable.
#include "packages/random_model.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "packages/part_layouts.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

class RandomModels : public ::testing::Test {
 protected:
  std::map<std::string, at::Tensor> written(const std::string& name, const RandomModel& model) {
    Progress progress(nullptr, false);
    const CancellationToken never;
    write_random_model(model, folder_ / name, progress, never);
    const ModelFiles files = find_model_files({.model = folder_ / name});
    EXPECT_EQ(files.family, ModelFamily::kWanAi);
    load_transformer(files.require(ModelPart::kTransformer), {});  // complete and finite
    return read_tensors(files.require(ModelPart::kTransformer).weights);
  }
  static RandomModel small() {
    RandomModel model;
    model.transformer = tiny_transformer_config();
    model.transformer.text_dim = 4096;  // as in Wan's config, which does not contain it
    model.seed = 3;
    return model;
  }

  const TemporaryFolder folder_;
};

TEST_F(RandomModels, AreTheSameForASeedWhateverTheShardsDtypeAndThreads) {
  RandomModel model = small();
  const auto first = written("a", model);
  model.max_shard_bytes = 300'000;
  model.dtype = DType::kF32;
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto second = written("b", model);
  at::set_num_threads(threads);
  for (const auto& [name, weight] : first) {
    EXPECT_EQ(weight.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(second.at(name).to(at::kBFloat16).equal(weight)) << name;
  }
  model.seed = 4;
  EXPECT_FALSE(written("c", model).at("head.head.weight").equal(second.at("head.head.weight")));
}

TEST_F(RandomModels, HaveNormalMatricesOfUnitGain) {
  RandomModel model = small();
  model.dtype = DType::kF32;
  const auto weights = written("a", model);
  const at::Tensor unit =
      weights.at("text_embedding.0.weight") * std::sqrt(4096.0);  // 524288 numbers
  EXPECT_NEAR(unit.mean().item<double>(), 0, 0.01);               // seven standard errors of 1.4e-3
  EXPECT_NEAR(unit.std().item<double>(), 1, 0.01);                // ten of 1e-3
  EXPECT_NEAR(unit.abs().gt(2).to(at::kDouble).mean().item<double>(), 0.0455,
              0.003);  // ten of 3e-4
  EXPECT_FALSE(
      weights.at("blocks.0.self_attn.q.weight").equal(weights.at("blocks.1.self_attn.q.weight")));
  EXPECT_TRUE(weights.at("blocks.0.norm3.weight").equal(torch::ones({128})));
}

RandomModelSource in_memory(uint64_t seed) {
  return {tiny_transformer_config(), tiny_text_encoder_config(), tiny_vae_config(), seed};
}

std::map<std::string, at::Tensor> weights_of(torch::nn::Module& part) {
  std::map<std::string, at::Tensor> weights;
  for (const auto& item : part.named_parameters()) {
    weights[item.key()] = item.value();
  }
  return weights;
}

TEST(RandomModelSource, GivesEveryPartAndKnowsItsBytes) {
  const RandomModelSource source = in_memory(1);
  const auto check = [&](ModelPart part, torch::nn::Module& module) {
    int64_t bytes = 0;
    for (const auto& [name, weight] : weights_of(module)) {
      bytes += static_cast<int64_t>(weight.nbytes());
      EXPECT_TRUE(torch::isfinite(weight).all().item<bool>()) << name;
      EXPECT_GT(weight.abs().max().item<float>(), 0) << name;
      EXPECT_FALSE(weight.requires_grad()) << name;
    }
    EXPECT_EQ(source.bytes(part, at::kFloat), bytes);
    EXPECT_FALSE(module.is_training());
  };
  check(ModelPart::kTransformer, *source.transformer({}));
  check(ModelPart::kTextEncoder, *source.text_encoder({}));
  check(ModelPart::kVae, *source.vae({}));
  const Tokenizer tokenizer = source.tokenizer();
  EXPECT_LE(tokenizer.vocab_size(), 512);
  EXPECT_EQ(tokenizer.encode("a heron a heron a heron", 4).mask, std::vector<int64_t>(4, 1));
}

TEST(RandomModelSource, GivesTheSameWeightsForASeedAndScalesThemByFanIn) {
  const auto first = weights_of(*in_memory(1).transformer({}));
  const auto again = weights_of(*in_memory(1).transformer({}));
  const auto other = weights_of(*in_memory(2).transformer({}));
  for (const auto& [name, weight] : first) {
    EXPECT_TRUE(weight.equal(again.at(name))) << name;
  }
  const at::Tensor& q = first.at("blocks.0.self_attn.q.weight");  // 16384 numbers
  EXPECT_FALSE(q.equal(other.at("blocks.0.self_attn.q.weight")));
  EXPECT_NEAR(q.std().item<double>() * std::sqrt(128.0), 1, 0.03);  // five standard errors
  EXPECT_TRUE(first.at("blocks.0.norm3.weight").equal(torch::ones({128})));
}

TEST(RandomModelSource, RoundsWeightsAsTheyAreMadeToOneByteEach) {
  const auto plain = weights_of(*in_memory(1).transformer({}));
  const auto simulated = weights_of(*in_memory(1).transformer({.hif8 = Hif8Use::kSimulated}));
  const auto fast = weights_of(*in_memory(1).transformer({.hif8 = Hif8Use::kTensorCores}));
  int64_t rounded = 0;
  for (const auto& [name, weight] : plain) {
    if (!hif8::is_rounded_weight(name)) {
      EXPECT_TRUE(fast.at(name).equal(weight)) << name;
      continue;
    }
    ++rounded;
    const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_tensor(weight));
    const at::Tensor values = hif8::code_values(weight, scale);
    EXPECT_TRUE(simulated.at(name).equal(values)) << name;
    EXPECT_EQ(fast.at(name).scalar_type(), at::kFloat8_e4m3fn);
    EXPECT_TRUE(fast.at(name).to(at::kFloat).equal(hif8::fp8_weight(values).to(at::kFloat)));
  }
  EXPECT_EQ(rounded, 20);
}

TEST(ReleasedTransformers, HaveWansSizes) {
  const auto parameters = [](const std::string& size) {
    int64_t count = 0;
    for (const auto& [name, shape] : part_shapes(released_transformer(size, "`size`"))) {
      count += *byte_count(shape, 1);
    }
    return count;
  };
  EXPECT_EQ(parameters("1.3b"), 1'418'996'800);
  EXPECT_EQ(parameters("14b"), 14'288'491'584);
  EXPECT_THROW(released_transformer("7b", "`size`"), InputError);
  EXPECT_EQ(part_shapes(model_of_size("14b", "`size`").transformer),
            part_shapes(released_transformer("14b", "`size`")));
  EXPECT_THROW(model_of_size("7b", "`size`"), InputError);
}

}  // namespace
}  // namespace ospnext
