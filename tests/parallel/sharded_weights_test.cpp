// Weights sharded among n processes: complete while they are used, else each process has 1/n.
#include "parallel/sharded_weights.h"

#include "support/run_ranks.h"

namespace ospnext {
namespace {

// Parameters of several dtypes. Their bytes are not a multiple of the number of ranks.
struct Block : torch::nn::Module {
  explicit Block(int64_t i) {
    const auto values = [i](at::IntArrayRef shape) {
      return (at::arange(c10::multiply_integers(shape)) % 15 + i).view(shape);
    };
    weight = register_parameter("weight", values({33, 40}).to(at::kFloat), false);
    codes = register_parameter("codes", values({70, 31}).to(at::kFloat8_e4m3fn), false);
    bias = register_parameter("bias", values({33}).to(at::kBFloat16), false);
    scale = register_parameter("scale", values({}).to(at::kFloat), false);
  }
  at::Tensor weight, codes, bias, scale;
};

std::vector<std::shared_ptr<torch::nn::Module>> blocks(int64_t count) {
  std::vector<std::shared_ptr<torch::nn::Module>> made;
  for (int64_t i = 0; i < count; ++i) {
    made.push_back(std::make_shared<Block>(i));
  }
  return made;
}

bool equal(const torch::nn::Module& a, const torch::nn::Module& b) {
  const auto others = b.named_parameters();
  for (const auto& item : a.named_parameters()) {
    const at::Tensor& other = others[item.key()];
    if (other.scalar_type() != item.value().scalar_type() ||
        !at::equal(item.value().to(at::kFloat), other.to(at::kFloat))) {
      return false;
    }
  }
  return true;
}

class Ranks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(ShardedWeights, Ranks, testing::Values(2, 3, 4));

TEST_P(Ranks, UseWholeBlocksInTurnAndKeepAPart) {
  const int n = GetParam();
  for (const int64_t count : {1, 2, 3, 5}) {
    const auto whole = blocks(count);
    run_ranks(n, [&](const ProcessGroup& all) {
      const auto own = blocks(count);
      ShardedWeights weights(all.twin("weights"), own);
      for (int64_t use = 0; use < 3 * count; ++use) {
        const int64_t i = use % count;
        weights.acquire(i, {static_cast<size_t>((i + 1) % count)});
        EXPECT_TRUE(equal(*own[i], *whole[i])) << "use " << use << " of " << count;
        if (count > 1) {  // the next block has no weights yet
          const auto& next = static_cast<const Block&>(*own[(i + 1) % count]);
          EXPECT_TRUE(at::isnan(next.weight).all().item<bool>());
          EXPECT_EQ(next.weight.storage().nbytes(), sizeof(float));
        }
        weights.release(i);
        EXPECT_TRUE(at::isnan(static_cast<const Block&>(*own[i]).weight).all().item<bool>());
      }
      EXPECT_THROW(weights.acquire(count), c10::Error);  // there is no such block
    });
  }
}

TEST_P(Ranks, KeepRowsThatComeLater) {
  const int n = GetParam();
  constexpr int64_t kBlocks = 2;
  const auto expected = blocks(kBlocks);
  run_ranks(n, [&](const ProcessGroup& all) {
    const auto own = blocks(kBlocks);
    for (const auto& block : own) {
      drop_memory(*block);
    }
    ShardedWeights weights(all.twin("weights"), own);
    int64_t kept = 0;
    for (int64_t i = 0; i < kBlocks; ++i) {
      const auto values = expected[i]->named_parameters();
      for (const auto& [name, shard] : weights.shards()[i]) {
        kept += static_cast<int64_t>(shard.kept.nbytes());
        if (shard.shape.empty()) {
          shard.write(0, values[name]);
          continue;
        }
        for (int64_t row = shard.first_row(); row < shard.first_row() + shard.num_rows();
             row += 3) {
          const int64_t rows = std::min<int64_t>(3, shard.first_row() + shard.num_rows() - row);
          shard.write(row, values[name].narrow(0, row, rows));
        }
      }
    }
    const int64_t bytes = kBlocks * (33 * 40 * 4 + 70 * 31 + 33 * 2 + 4);
    EXPECT_NEAR(static_cast<double>(kept), static_cast<double>(bytes) / n, 2048);
    for (int64_t i = 0; i < kBlocks; ++i) {
      weights.acquire(i);
      EXPECT_TRUE(equal(*own[i], *expected[i])) << i;
      weights.release(i);
    }
  });
}

TEST(ShardedWeights, OfOneRankStayAsTheyAre) {
  const auto own = blocks(2);
  ShardedWeights weights(ProcessGroup(), own);
  weights.acquire(1);
  EXPECT_TRUE(equal(*own[1], *blocks(2)[1]));
  EXPECT_TRUE(weights.shards().empty());
}

}  // namespace
}  // namespace ospnext
