// Random checkpoints: repeatable, of the right spread, and loadable.
#include "pipeline/random_model.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "pipeline/load_model.h"
#include "pipeline/part_layouts.h"
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
    model.transformer.text_dim = 4096;  // as a Wan config, which does not name it, has it
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

TEST(ReleasedTransformers, HaveWansSizes) {
  const auto parameters = [](const std::string& size) {
    int64_t count = 0;
    for (const auto& [name, shape] : part_shapes(released_transformer(size, "--size"))) {
      count += *byte_count(shape, 1);
    }
    return count;
  };
  EXPECT_EQ(parameters("1.3b"), 1'418'996'800);
  EXPECT_EQ(parameters("14b"), 14'288'491'584);
  EXPECT_THROW(released_transformer("7b", "--size"), InputError);
}

}  // namespace
}  // namespace ospnext
