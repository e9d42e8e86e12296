// A transformer with its blocks sharded among processes computes the same as one with all its
// weights, bit for bit.
#include <gtest/gtest.h>

#include "core/torch/random.h"
#include "models/transformer.h"
#include "models/transformer_hif8.h"
#include "support/run_ranks.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

TransformerConfig sparse_config() {
  TransformerConfig config = tiny_transformer_config();
  config.num_heads = 4;
  config.num_layers = 8;  // not a multiple of the three buffers
  config.skiparse_model_type = "dual_end";
  config.num_full_blocks = 4;
  return config;
}

struct Inputs {
  at::Tensor latent, text, timestep;
};

Inputs inputs() {
  at::Generator generator = seeded_generator(5, "sharded weights");
  const auto draw = [&](at::IntArrayRef shape) {
    return torch::randn(shape, generator, at::kFloat);
  };
  return {draw({1, 16, 2, 10, 14}), draw({1, 3, 32}), at::tensor({750.F})};
}

// The bytes of memory that the parameters of the blocks occupy.
int64_t memory_of_blocks(TransformerImpl& transformer) {
  int64_t bytes = 0;
  for (const at::Tensor& parameter : transformer.blocks->parameters()) {
    bytes += static_cast<int64_t>(parameter.storage().nbytes());
  }
  return bytes;
}

void expect_equal_to_whole(int size, const std::vector<SequenceMesh>& meshes,
                           const Hif8Rounding& rounding) {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  Transformer transformer = random_transformer(sparse_config(), 3);
  if (rounding.any()) {
    round_to_hif8(transformer, rounding);
  }
  const Inputs in = inputs();
  const auto journal = std::make_shared<Journal>();
  const auto work = [&](const ProcessGroup& all) {
    const auto run = [&](const SequenceMesh& mesh) {
      return transformer->forward(in.latent, in.text, in.timestep, sequence_ranks(all, mesh, 4));
    };
    std::vector<at::Tensor> expected;
    for (const SequenceMesh& mesh : meshes) {
      expected.push_back(run(mesh));
    }
    const int64_t whole = memory_of_blocks(*transformer);
    int64_t kept = 0;
    for (const auto& [name, shard] : transformer->shard_blocks(all.twin("weights"))) {
      kept += static_cast<int64_t>(shard.kept.nbytes());
    }
    EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(whole), 1.0 / size, 0.02);
    EXPECT_LT(memory_of_blocks(*transformer), whole / 100);  // their memory is freed
    for (size_t i = 0; i < meshes.size(); ++i) {
      EXPECT_TRUE(at::equal(run(meshes[i]), expected[i]))
          << "mesh " << i << " of " << size << " ranks";
    }
    // embed_text() uses every block once, and forward() does too.
    const Traffic gathered = journal->traffic().at("weights");
    EXPECT_EQ(gathered.calls, 2 * 8 * std::ssize(meshes));
    const auto block = static_cast<double>(whole) / 8;
    EXPECT_NEAR(static_cast<double>(gathered.bytes) / static_cast<double>(gathered.calls),
                block / size * (size - 1), 0.02 * block);
  };
  run_ranks(size, work, {.journal = journal});
}

TEST(ShardedTransformer, OnTwoRanksEqualsTheWhole) {
  expect_equal_to_whole(2, {{2, 1, 1}, {1, 2, 1}, {1, 1, 2}}, {});
}

TEST(ShardedTransformer, OnThreeRanksEqualsTheWhole) {
  expect_equal_to_whole(3, {{1, 1, 3}}, {});
}

TEST(ShardedTransformer, OnFourRanksEqualsTheWhole) {
  expect_equal_to_whole(4, {{4, 1, 1}, {2, 1, 2}}, {});
}

TEST(ShardedTransformer, InHif8EqualsTheWhole) {
  expect_equal_to_whole(2, {{2, 1, 1}}, {.linears = true, .attention = true});
}

// Each rank makes a different video.
TEST(ShardedTransformer, ServesPassesOfDifferentVideos) {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  Transformer transformer = random_transformer(sparse_config(), 3);
  const Inputs in = inputs();
  run_ranks(2, [&](const ProcessGroup& all) {
    const at::Tensor own = in.latent * (1 + all.rank());
    const at::Tensor expected = transformer->forward(own, in.text, in.timestep);
    transformer->shard_blocks(all.twin("weights"));
    EXPECT_TRUE(at::equal(transformer->forward(own, in.text, in.timestep), expected));
  });
}

TEST(ShardedTransformer, OfOneRankIsTheWhole) {
  Transformer transformer = random_transformer(sparse_config(), 3);
  const int64_t whole = memory_of_blocks(*transformer);
  EXPECT_TRUE(transformer->shard_blocks({}).empty());
  EXPECT_EQ(memory_of_blocks(*transformer), whole);
}

}  // namespace
}  // namespace ospnext
