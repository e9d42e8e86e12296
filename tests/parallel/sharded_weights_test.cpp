// Weights sharded among n processes, or offloaded: complete while they are leased, else each
// process has 1/n.
#include "parallel/sharded_weights.h"

#include <optional>
#include <stdexcept>

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

struct Case {
  int ranks;
  bool offload;
};

class Ranks : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(ShardedWeights, Ranks,
                         testing::Values(Case{2, false}, Case{3, false}, Case{4, false},
                                         Case{1, true}, Case{3, true}),
                         [](const auto& info) {
                           return std::to_string(info.param.ranks) +
                                  (info.param.offload ? "Offloaded" : "Resident");
                         });

TEST_P(Ranks, UseWholeBlocksInTurnAndKeepAPart) {
  const int n = GetParam().ranks;
  const bool offload = GetParam().offload;
  for (const int64_t count : {1, 2, 3, 5}) {
    const auto whole = blocks(count);
    run_ranks(n, [&](const ProcessGroup& all) {
      const auto own = blocks(count);
      ShardedWeights weights(all.twin("weights"), own, {}, {.offload = offload});
      for (int64_t use = 0; use < 3 * count; ++use) {
        const int64_t i = use % count;
        std::optional<ShardedWeights::Lease> lease(
            weights.lease(i, {static_cast<size_t>((i + 1) % count)}));
        EXPECT_TRUE(equal(*own[i], *whole[i])) << "use " << use << " of " << count;
        if (count > 1) {  // the next block has no weights yet
          const auto& next = static_cast<const Block&>(*own[(i + 1) % count]);
          EXPECT_TRUE(at::isnan(next.weight).all().item<bool>());
          EXPECT_EQ(next.weight.storage().nbytes(), sizeof(float));
        }
        lease.reset();
        EXPECT_TRUE(at::isnan(static_cast<const Block&>(*own[i]).weight).all().item<bool>());
      }
      EXPECT_THROW(auto none = weights.lease(count), c10::Error);  // there is no such block
    });
  }
}

TEST_P(Ranks, KeepRowsThatComeLater) {
  const int n = GetParam().ranks;
  const bool offload = GetParam().offload;
  constexpr int64_t kBlocks = 2;
  const auto expected = blocks(kBlocks);
  run_ranks(n, [&](const ProcessGroup& all) {
    const auto own = blocks(kBlocks);
    for (const auto& block : own) {
      drop_memory(*block);
    }
    ShardedWeights weights(all.twin("weights"), own, {}, {.offload = offload});
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
      const auto lease = weights.lease(i);
      EXPECT_TRUE(equal(*own[i], *expected[i])) << i;
    }
  });
}

TEST(ShardedWeights, OfOneRankStayAsTheyAre) {
  const auto own = blocks(2);
  ShardedWeights weights(ProcessGroup(), own);
  EXPECT_TRUE(weights.shards().empty());
  const auto lease = weights.lease(1);
  EXPECT_TRUE(equal(*own[1], *blocks(2)[1]));
}

TEST(ShardedWeights, StayWhileAnyLeaseLives) {
  const auto own = blocks(2);
  ShardedWeights weights({}, own, {}, {.offload = true});
  const auto is_there = [&] { return equal(*own[0], *blocks(1)[0]); };
  {
    const auto outer = weights.lease(0);
    try {
      const auto inner = weights.lease(0);
      throw std::runtime_error("a failure while the block runs");
    } catch (const std::runtime_error&) {
    }
    EXPECT_TRUE(is_there());
  }
  EXPECT_FALSE(is_there());
}

TEST(ShardedWeights, GotAheadAreForgottenWhenShardsHaveChanged) {
  const auto own = blocks(2);
  ShardedWeights weights({}, own, {}, {.offload = true});
  const auto first_value = [&] {
    const auto lease = weights.lease(1);
    return static_cast<const Block&>(*own[1]).weight[0][0].item<float>();
  };
  { const auto lease = weights.lease(0, {1}); }
  weights.shards()[1].at("weight").kept.fill_(8);
  EXPECT_EQ(first_value(), 1);  // from before the change
  { const auto lease = weights.lease(0, {1}); }
  weights.shards()[1].at("weight").kept.fill_(9);
  weights.forget_ahead();
  EXPECT_EQ(first_value(), 9);
}

}  // namespace
}  // namespace ospnext
