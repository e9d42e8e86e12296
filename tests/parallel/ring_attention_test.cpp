// Ring attention between processes gives the same result as attention in one process.
#include "parallel/ring_attention.h"

#include <numeric>

#include "core/torch/random.h"
#include "kernels/partial_attention.h"
#include "support/run_ranks.h"

namespace ospnext {
namespace {

constexpr int64_t kSegments = 3;

// The tokens of a rank in each segment: uneven, some zero.
std::vector<int64_t> lengths_of(int rank) {
  return {rank % 2 == 0 ? 5 : 2, rank == 1 ? 0 : 3, 1 + rank};
}

struct Heads {
  at::Tensor q, k, v;  // [2, l, 2, 8]
};

Heads heads_of(int rank) {
  at::Generator generator = seeded_generator(rank, "ring");
  const auto lengths = lengths_of(rank);
  const int64_t l = std::reduce(lengths.begin(), lengths.end());
  const auto draw = [&] { return torch::randn({2, l, 2, 8}, generator, at::kFloat); };
  return {draw(), draw(), draw()};
}

class Ring : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(RingAttention, Ring, testing::Values(2, 3, 4));

TEST_P(Ring, JoinsThePartsInTheOrderTheyCome) {
  const int n = GetParam();
  std::vector<std::vector<int64_t>> segments;
  for (int rank = 0; rank < n; ++rank) {
    segments.push_back(lengths_of(rank));
    ASSERT_EQ(std::ssize(segments.back()), kSegments);
  }
  const auto journal = std::make_shared<Journal>();
  run_ranks(
      n,
      [&](const ProcessGroup& all) {
        const int rank = all.rank();
        const Heads own = heads_of(rank);
        PartialAttention expected;
        for (int turn = 0; turn < n; ++turn) {
          const int whose = (rank + n - turn) % n;
          const Heads theirs = heads_of(whose);
          const PartialAttention part =
              partial_attention(own.q, theirs.k, theirs.v, segments[rank], segments[whose]);
          expected = turn == 0 ? part : join(expected, part);
        }
        for (int i = 0; i < 3; ++i) {  // transfer and computation overlap differently each time
          EXPECT_TRUE(at::equal(ring_attention(own.q, own.k, own.v, segments, all), expected.out));
        }
        EXPECT_EQ(journal->traffic().at("ring").calls, 3 * (n - 1));
      },
      {.journal = journal});
}

}  // namespace
}  // namespace ospnext
