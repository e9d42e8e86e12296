// Measures the traffic between ranks with the counters: one exchange per sparse block, a quarter of
// the bytes of Ulysses.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <numeric>

#include "models/token_exchange.h"
#include "models/transformer.h"
#include "parallel/ulysses.h"
#include "support/run_ranks.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

constexpr int kRanks = 4;
constexpr int64_t kHeads = 4, kHeadWidth = 1, kWidth = kHeads * kHeadWidth;

// The bytes that each rank sent, gathered on all ranks.
std::vector<int64_t> sent_by_all(const ProcessGroup& all, Journal& journal,
                                 const std::vector<const char*>& purposes) {
  int64_t bytes = 0;
  for (const char* const purpose : purposes) {
    bytes += journal.traffic().at(purpose).bytes;
  }
  const at::Tensor sent =
      all.all_gather(at::tensor({bytes}, at::kLong), std::vector<int64_t>(kRanks, 1), "figures");
  const int64_t* const data = sent.const_data_ptr<int64_t>();
  return {data, data + kRanks};
}

struct Figures {
  double total_saved, busiest_saved;  // percent of the bytes of Ulysses
  int64_t busiest_tokens;             // tokens that the busiest rank sends in a switch
};

// Compares one switch between sparse layouts with one Ulysses attention on even shards.
Figures measure(const ProcessGroup& all, const SequenceRanks& ranks, Journal& journal,
                const Grid& grid) {
  journal.forget_traffic();
  const Spread spread{kRanks, 1};
  const Layout token(grid, Pattern::kToken, 2, at::kCPU, spread);
  const Layout group(grid, Pattern::kGroup, 2, at::kCPU, spread);
  TokenExchange exchange(ranks);
  const int64_t own = token.tokens_of(all.rank());
  exchange.add_switch(token, group);
  exchange.switch_layout(at::zeros({1, own, kWidth}), token, group);
  EXPECT_EQ(journal.traffic().at("switch").calls, 1);

  const Layout rows(grid, Pattern::kFull, 1, at::kCPU, {1, kRanks});
  std::vector<int64_t> shards;
  for (int rank = 0; rank < kRanks; ++rank) {
    shards.push_back(rows.tokens_of(rank));
  }
  const at::Tensor heads = at::zeros({1, shards[all.rank()], kHeads, kHeadWidth});
  const auto all_tokens = tokens_to_heads({heads, heads, heads}, shards, all);
  heads_to_tokens(all_tokens[0], shards, all);
  EXPECT_EQ(journal.traffic().at("ulysses in").calls + journal.traffic().at("ulysses out").calls,
            2);

  const auto ours = sent_by_all(all, journal, {"switch"});
  const auto theirs = sent_by_all(all, journal, {"ulysses in", "ulysses out"});
  const auto total = [](const std::vector<int64_t>& sent) {
    return static_cast<double>(std::reduce(sent.begin(), sent.end()));
  };
  const int64_t busiest = *std::max_element(ours.begin(), ours.end());
  const int64_t their_busiest = *std::max_element(theirs.begin(), theirs.end());
  constexpr double kPercent = 100;
  return {kPercent * (1 - total(ours) / total(theirs)),
          kPercent * (1 - static_cast<double>(busiest) / static_cast<double>(their_busiest)),
          busiest / (kWidth * static_cast<int64_t>(sizeof(float)))};
}

TEST(TransformerTraffic, ASparseBlockSendsAQuarterOfUlysses) {
  const auto journal = std::make_shared<Journal>();
  run_ranks(kRanks,
            [&](const ProcessGroup& all) {
              const SequenceRanks ranks = sequence_ranks(all, {kRanks, 1, 1}, kHeads);
              const struct {
                const char* name;
                Grid grid;
                double total_saved, busiest_saved;
                int64_t busiest_tokens;
              } cases[] = {{"720P", {21, 45, 80}, 75.19, 74.81, 14280},
                           {"768x1280", {21, 48, 80}, 75.00, 75.00, 15120},
                           {"480P", {21, 30, 52}, 75.00, 74.44, 6279}};
              for (const auto& it : cases) {
                const Figures figures = measure(all, ranks, *journal, it.grid);
                if (all.rank() == 0) {
                  std::printf(
                      "%s on 4 ranks: %.2f %% less than Ulysses in total, %.2f %% less by the "
                      "busiest rank, which sends %ld tokens\n",
                      it.name, figures.total_saved, figures.busiest_saved, figures.busiest_tokens);
                }
                EXPECT_NEAR(figures.total_saved, it.total_saved, 0.005) << it.name;
                EXPECT_NEAR(figures.busiest_saved, it.busiest_saved, 0.005) << it.name;
                EXPECT_EQ(figures.busiest_tokens, it.busiest_tokens) << it.name;
              }
            },
            {.journal = journal});
}

TEST(TransformerTraffic, LoadOfTheBusiestRank) {
  const auto excess = [](const Grid& grid, Pattern pattern, int64_t owners) {
    const Layout layout(grid, pattern, 2, at::kCPU, {owners, 1});
    int64_t most = 0;
    for (int64_t rank = 0; rank < owners; ++rank) {
      most = std::max(most, layout.tokens_of(rank));
    }
    return 100 * (static_cast<double>(most * owners) / static_cast<double>(grid.tokens()) - 1);
  };
  const Grid hd{21, 45, 80};
  for (const Pattern pattern : {Pattern::kToken, Pattern::kGroup}) {
    EXPECT_NEAR(excess(hd, pattern, 4), 2.22, 0.005);  // 6.67 if padded to 48 rows
    EXPECT_EQ(excess(hd, pattern, 2), 0);
  }
}

TEST(TransformerTraffic, AForwardExchangesOncePerSparseBlockAndTwicePerFullOne) {
  TransformerConfig config = tiny_transformer_config();
  config.num_heads = 4;
  config.num_layers = 8;
  config.skiparse_model_type = "dual_end";
  config.num_full_blocks = 4;
  at::set_num_threads(1);
  Transformer transformer = random_transformer(config, 3);
  const auto journal = std::make_shared<Journal>();
  run_ranks(kRanks,
            [&](const ProcessGroup& all) {
              transformer->forward(at::zeros({1, 16, 2, 8, 8}), at::zeros({1, 3, 32}),
                                   at::tensor({500.F}),
                                   sequence_ranks(all, {kRanks, 1, 1}, config.num_heads));
              EXPECT_EQ(journal->traffic().at("switch").calls, 3);  // between 4 sparse blocks
              EXPECT_EQ(journal->traffic().at("ulysses in").calls, 4);
              EXPECT_EQ(journal->traffic().at("ulysses out").calls, 4);
              EXPECT_EQ(journal->traffic().at("gather").calls, 1);
              EXPECT_EQ(journal->traffic().size(), 5);  // the fifth is the start of the group
            },
            {.journal = journal});
}

}  // namespace
}  // namespace ospnext
