// Plans count computation and traffic like the ranks do, and scale as expected.
#include "engine/plan.h"

#include <gtest/gtest.h>

#include "engine/work_ranks.h"
#include "packages/random_model.h"

namespace ospnext {
namespace {

const Grid kHd{21, 45, 80};

PlanSubject subject() {
  PlanSubject subject;
  subject.transformer = released_transformer("14b", "test");
  subject.transformer.skiparse_model_type = "dual_end";
  subject.transformer.num_full_blocks = 8;
  subject.grid = kHd;
  subject.costs = block_costs(0.2362, 0.107, kHd, subject.transformer);
  subject.costs.turn = turn_cost(0.02, kHd);
  subject.link_bytes = 200e9;
  return subject;
}

TEST(Plan, OfOneRankIsTheMeasuredBlocks) {
  const Plan plan = predict(Mesh(), subject());
  EXPECT_NEAR(plan.compute, 2 * (8 * 0.2362 + 32 * 0.107), 1e-6);
  // Each rank joins half of the tokens in two turns, in two passes of 40 blocks.
  EXPECT_NEAR(predict({.sequence = {.ring = 2}}, subject()).compute,
              plan.compute / 2 + 2 * 40 * 0.02 / 2, 1e-6);
  EXPECT_EQ(plan.exchange, 0);
  EXPECT_EQ(plan.bytes, 0);
}

TEST(Plan, CountsTheBytesOfTheBusiestRank) {
  PlanSubject it = subject();
  it.two_passes = false;
  const Plan plan = predict({.sequence = {.ssp = 4}}, it);
  const int64_t row = int64_t{5120} * 2;
  // 31 switches of at most 14,280 tokens, and 8 full blocks of Ulysses. In these, the rank with
  // 19,320 tokens sends the most.
  const int64_t tokens = 19320;
  const int64_t ulysses = 3 * tokens * 3 * row / 4 + (75600 - tokens) * row / 4;
  const int64_t gather = 3 * tokens * 64 * 4;
  EXPECT_EQ(plan.bytes, 31 * 14280 * row + 8 * ulysses + gather);
  EXPECT_EQ(plan.exchanges, 31 + 2 * 8 + 1);
}

TEST(Plan, DividesTheWork) {
  const double alone = predict(Mesh(), subject()).compute;
  const auto speedup = [&](const Mesh& mesh) { return alone / predict(mesh, subject()).compute; };
  EXPECT_NEAR(speedup({.cfg = 2, .sequence = {}}), 2, 1e-9);
  EXPECT_NEAR(speedup({.sequence = {.ssp = 4}}), 4 / 1.022, 0.05);
  EXPECT_NEAR(speedup({.cfg = 2, .sequence = {.ssp = 2}}), 4, 0.02);
  EXPECT_NEAR(speedup({.sequence = {.ulysses = 8}}), 8, 0.01);
  EXPECT_LT(predict({.sequence = {.ssp = 4}}, subject()).memory, predict(Mesh(), subject()).memory);
}

TEST(Plan, ShardedWeightsAreGatheredBesideComputation) {
  const Mesh mesh{.cfg = 2, .sequence = {.ssp = 4}};
  PlanSubject it = subject();
  it.latency = 0;
  const Plan whole = predict(mesh, it);
  it.shard_weights = true;
  const Plan sharded = predict(mesh, it);
  const int64_t C = 5120, block = 2 * (8 * C * C + 2 * C * 13824) + 6 * 4 * C;
  EXPECT_EQ(whole.memory - sharded.memory, 40 * block - (40 * block / 8 + 3 * block));
  EXPECT_EQ(sharded.bytes - whole.bytes, 40 * (block / 8) * 7);
  EXPECT_EQ(sharded.exchanges - whole.exchanges, 40);
  EXPECT_EQ(sharded.exchange, whole.exchange);
  it.link_bytes = 10e9;  // too slow to be hidden
  const double gathering = static_cast<double>(sharded.bytes - whole.bytes) / it.link_bytes;
  EXPECT_GT(gathering, whole.compute);
  EXPECT_NEAR(predict(mesh, it).seconds(),
              static_cast<double>(whole.bytes) / it.link_bytes + gathering, 1e-6);
  EXPECT_EQ(predict(Mesh(), it).bytes, 0);
}

TEST(Plan, OffloadedWeightsAreCopiedBesideComputation) {
  PlanSubject it = subject();
  const Plan whole = predict(Mesh(), it);
  it.offload = true;
  const Plan offloaded = predict(Mesh(), it);
  const int64_t C = 5120, block = 2 * (8 * C * C + 2 * C * 13824) + 6 * 4 * C;
  EXPECT_EQ(offloaded.host_memory, 40 * block);
  EXPECT_EQ(whole.memory - offloaded.memory, 40 * block - 3 * block);
  EXPECT_EQ(offloaded.bytes, 0);  // nothing goes to another rank
  EXPECT_EQ(offloaded.seconds(), whole.seconds());
  it.grid = {2, 45, 80};  // computes for less time than the copies take
  const double copies = 2 * 40 * static_cast<double>(block) / it.host_link;
  EXPECT_GT(copies, predict(Mesh(), it).compute);
  EXPECT_NEAR(predict(Mesh(), it).seconds(), copies, 1e-9);
  const Mesh mesh{.sequence = {.ssp = 4}};
  it.shard_weights = true;  // each copies its quarter
  EXPECT_EQ(predict(mesh, it).host_memory, 10 * block);
}

TEST(Plan, KeysOfARingTravelBesideAttention) {
  PlanSubject it = subject();
  const Mesh ring{.sequence = {.ring = 4}};
  const Plan fast = predict(ring, it);
  it.latency = 1;  // one second, longer than the attention
  const Plan slow = predict(ring, it);
  EXPECT_GT(slow.exchange, static_cast<double>(slow.exchanges) * 0.9);
  EXPECT_LT(fast.exchange, 0.5 * static_cast<double>(fast.bytes) / it.link_bytes);
}

TEST(Plan, ChoosesTheMesh) {
  const PlanSubject large = subject();
  const auto chosen = [](int ranks, const PlanSubject& it) {
    return fastest_mesh(ranks, {}, mesh_subject(it.transformer, 1, it.two_passes), it);
  };
  EXPECT_EQ(chosen(2, large), (Mesh{1, 2, {1, 1, 1}}));
  EXPECT_EQ(chosen(4, large), (Mesh{1, 2, {2, 1, 1}}));
  EXPECT_EQ(chosen(8, large), (Mesh{1, 2, {4, 1, 1}}));
  EXPECT_EQ(chosen(16, large), (Mesh{1, 2, {4, 2, 1}}));
  PlanSubject uneven = large;  // three rows and columns: one of four owners has 4 of 9 tokens
  uneven.grid = {21, 3, 3};
  uneven.two_passes = false;
  uneven.latency = 0;
  EXPECT_LT(chosen(4, uneven).sequence.ssp, 4);
}

TEST(Plan, TakesTheCostsOfAnH200ForOtherWidths) {
  const PlanSubject large = subject();
  const BlockCosts measured = h200_block_costs(large.transformer, false);
  EXPECT_DOUBLE_EQ(measured.token, large.costs.token);
  EXPECT_DOUBLE_EQ(measured.pair, large.costs.pair);
  const BlockCosts narrow = h200_block_costs(released_transformer("1.3b", "test"), false);
  EXPECT_DOUBLE_EQ(narrow.pair, measured.pair * 1536 / 5120);
  EXPECT_NEAR(narrow.token, 1.57e-7, 1e-12);
  EXPECT_LT(h200_block_costs(large.transformer, true).token, measured.token);
}

TEST(Plan, ADenseModelNeedsNoSwitch) {
  PlanSubject it = subject();
  it.two_passes = false;
  it.transformer.skiparse_model_type = "full";
  it.transformer.num_full_blocks = 0;
  EXPECT_EQ(predict({.sequence = {.ulysses = 4}}, it).exchanges, 2 * 40 + 1);
  EXPECT_EQ(predict({.sequence = {.ring = 4}}, it).exchanges, 3 * 40 + 1);
}

}  // namespace
}  // namespace ospnext
