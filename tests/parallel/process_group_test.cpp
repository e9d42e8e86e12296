// Collectives over Gloo between processes: uneven, empty, of any dtype; errors are reported; a
// group of one sends nothing.
#include "parallel/process_group.h"

#include <thread>

#include "core/error.h"
#include "support/run_ranks.h"

namespace ospnext {
namespace {

// Rows whose values identify the rank: rank·100 + 0, 1, ...
at::Tensor rows_of(int rank, int64_t rows, at::ScalarType dtype) {
  return (at::arange(rows) + rank * 100).to(dtype).unsqueeze(1).expand({rows, 3}).contiguous();
}

// How many rows rank `from` sends to rank `to`: uneven, some zero.
int64_t rows_between(int from, int to) {
  return from == 1 ? 0 : (from + 2 * to) % 4;
}

class ManyRanks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(ProcessGroup, ManyRanks, testing::Values(2, 3, 4, 8));

TEST_P(ManyRanks, ExchangeUnevenAndEmptyRowsOfAnyDtype) {
  const int n = GetParam();
  run_ranks(n, [n](const ProcessGroup& all) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kByte, at::kLong}) {
      std::vector<int64_t> sent, received;
      std::vector<at::Tensor> mine, expected;
      for (int other = 0; other < n; ++other) {
        sent.push_back(rows_between(all.rank(), other));
        received.push_back(rows_between(other, all.rank()));
        mine.push_back(rows_of(all.rank(), 4, dtype).narrow(0, 0, sent.back()));
        expected.push_back(rows_of(other, 4, dtype).narrow(0, 0, received.back()));
      }
      const at::Tensor out = all.all_to_all(at::cat(mine), sent, received, "test");
      EXPECT_TRUE(at::equal(out, at::cat(expected)));
      EXPECT_EQ(out.scalar_type(), dtype);
    }
  });
}

TEST_P(ManyRanks, GatherReduceBroadcastAndPass) {
  const int n = GetParam();
  run_ranks(n, [n](const ProcessGroup& all) {
    std::vector<int64_t> rows;
    std::vector<at::Tensor> expected;
    for (int rank = 0; rank < n; ++rank) {
      rows.push_back(rank % 3);
      expected.push_back(rows_of(rank, rows.back(), at::kFloat));
    }
    EXPECT_TRUE(at::equal(all.all_gather(expected[all.rank()], rows, "gather"), at::cat(expected)));
    const at::Tensor x = at::tensor({1.F * all.rank(), -1.F * all.rank()});
    EXPECT_TRUE(at::equal(all.all_max(x, "max"), at::tensor({n - 1.F, 0.F})));
    EXPECT_TRUE(at::equal(all.all_sum(x, "sum"), at::tensor({1.F, -1.F}) * (n * (n - 1) / 2)));
    EXPECT_TRUE(at::equal(x, at::tensor({1.F * all.rank(), -1.F * all.rank()})));
    EXPECT_EQ(all.broadcast(at::tensor({all.rank()}), 1, "broadcast").item<int>(), 1);
    if (all.rank() == 0) {
      all.send(at::tensor({7, 8}), 1, "send");
    } else if (all.rank() == 1) {
      EXPECT_TRUE(
          at::equal(all.receive_like(at::zeros({2}, at::kInt), 0, "receive"), at::tensor({7, 8})));
    }
    all.barrier("barrier");
  });
}

TEST(ProcessGroup, SubgroupsWorkSideBySide) {
  run_ranks(4, [](const ProcessGroup& all) {
    const int half = all.rank() / 2;
    const ProcessGroup pair = all.subgroup({2 * half + 1, 2 * half});  // in any order
    EXPECT_EQ(pair.size(), 2);
    EXPECT_EQ(pair.rank(), 1 - all.rank() % 2);
    const ProcessGroup across = all.subgroup({all.rank() % 2, all.rank() % 2 + 2});
    const at::Tensor rank = at::tensor({all.rank()});
    EXPECT_TRUE(
        at::equal(pair.all_gather(rank, {1, 1}, "pair"), at::tensor({2 * half + 1, 2 * half})));
    EXPECT_EQ(across.all_sum(rank, "across").item<int>(), all.rank() % 2 * 2 + 2);
    EXPECT_EQ(all.subgroup({all.rank()}).size(), 1);
  });
}

TEST(ProcessGroup, CountsBytesSentToOthers) {
  const auto journal = std::make_shared<Journal>();
  run_ranks(3,
            [&](const ProcessGroup& all) {
              const at::Tensor x = at::zeros({6, 5});
              all.all_to_all(x, {1, 2, 3}, std::vector<int64_t>(3, all.rank() + 1), "switch");
              all.all_to_all(x, {2, 2, 2}, {2, 2, 2}, "switch");
              all.all_gather(x, {6, 6, 6}, "gather");
              const int64_t row = 5 * sizeof(float);
              const Traffic exchanged = journal->traffic().at("switch");
              EXPECT_EQ(exchanged.calls, 2);
              EXPECT_EQ(exchanged.bytes, row * (6 - (all.rank() + 1) + 4));
              EXPECT_EQ(journal->traffic().at("gather").bytes, 2 * 6 * row);
            },
            {.journal = journal});
}

TEST(ProcessGroup, ExchangesAreSpans) {
  const auto journal = std::make_shared<Journal>();
  run_ranks(
      2,
      [&](const ProcessGroup& all) {
        const at::Tensor x = at::zeros({4});
        all.all_to_all(x, {2, 2}, {2, 2}, "before");
        Spans spans(at::kCPU);
        journal->record_to(spans);
        const Span block(&spans, SpanKind::kBlock, "full");
        all.all_to_all(x, {1, 3},
                       all.rank() == 0 ? std::vector<int64_t>{1, 1} : std::vector<int64_t>{3, 3},
                       "switch");
        ASSERT_EQ(spans.records().size(), 2);
        const SpanRecord& exchange = spans.records()[1];
        EXPECT_EQ(exchange.kind, SpanKind::kExchange);
        EXPECT_EQ(exchange.name, "switch");
        EXPECT_EQ(exchange.parent, 0);
        EXPECT_EQ(exchange.bytes, static_cast<int64_t>(sizeof(float)) * (all.rank() == 0 ? 3 : 1));
        EXPECT_GT(exchange.end, exchange.begin);
      },
      {.journal = journal});
}

// If the start of a collective waited for the other rank, this would be a deadlock.
TEST(ProcessGroup, WhatIsStartedGoesOnBesideOtherCollectives) {
  const auto journal = std::make_shared<Journal>();
  run_ranks(2,
            [&](const ProcessGroup& all) {
              const ProcessGroup weights = all.twin("weights");
              const at::Tensor part = at::full({5}, all.rank(), at::kByte);
              at::Tensor first = at::empty({10}, at::kByte), second = at::empty({10}, at::kByte);
              const at::Tensor rows = rows_of(all.rank(), 2, at::kFloat);
              if (all.rank() == 1) {
                all.barrier("between");
              }
              Pending one = weights.start_gather_into(first, part, "weights");
              Pending two = weights.start_gather_into(second, part + 7, "weights");
              Pending exchanged = weights.start_all_to_all(rows, {1, 1}, {1, 1}, "ring");
              EXPECT_EQ(journal->traffic().at("weights").calls, 0);
              if (all.rank() == 0) {
                all.barrier("between");
              }
              const at::Tensor got = exchanged.wait();
              EXPECT_TRUE(two.wait().is_same(second));
              one.wait();
              const at::Tensor expected = at::arange(2).repeat_interleave(5).to(at::kByte);
              EXPECT_TRUE(at::equal(first, expected));
              EXPECT_TRUE(at::equal(second, expected + 7));
              EXPECT_TRUE(at::equal(got, at::stack({rows_of(0, 2, at::kFloat)[all.rank()],
                                                    rows_of(1, 2, at::kFloat)[all.rank()]})));
              EXPECT_EQ(journal->traffic().at("weights").calls, 2);
              EXPECT_EQ(journal->traffic().at("weights").bytes, 2 * 5);
            },
            {.timeout = std::chrono::seconds(20), .journal = journal});
}

TEST(ProcessGroup, ADeathIsNoticedWhereTheResultIsWaitedFor) {
  run_ranks(
      2,
      [](const ProcessGroup& all) {
        if (all.rank() == 1) {
          std::this_thread::sleep_for(std::chrono::milliseconds(200));  // until both are connected
          std::fflush(nullptr);
          ::_exit(0);
        }
        // The exchange may throw already at its start.
        EXPECT_THROW(
            all.start_gather_into(at::empty({8}, at::kByte), at::ones({4}, at::kByte), "weights")
                .wait(),
            RunError);
      },
      {.timeout = std::chrono::seconds(100),
       .explain = [](const std::string&) { return "rank 1 has gone"; }});
}

TEST(ProcessGroup, OfOneIsTheIdentity) {
  const ProcessGroup alone;
  const at::Tensor x = at::randn({3, 2});
  EXPECT_TRUE(alone.all_to_all(x, {3}, {3}, "").is_same(x));
  EXPECT_TRUE(alone.all_gather(x, {3}, "").is_same(x));
  EXPECT_TRUE(alone.all_max(x, "").is_same(x));
  EXPECT_TRUE(alone.broadcast(x, 0, "").is_same(x));
  EXPECT_EQ(alone.subgroup({0}).size(), 1);
  EXPECT_EQ(alone.twin("weights").size(), 1);
  alone.barrier("");
}

// Runs every collective of the engine in a group of one: the only test of NCCL that one GPU allows.
void exchange_with_itself(Transport transport, at::Device device) {
  const HostedStore store;
  const auto journal = std::make_shared<Journal>();
  const ProcessGroup all(Store::connect("127.0.0.1", store.port(), std::chrono::seconds(20)), "all",
                         0, 1,
                         {.transport = transport, .journal = journal, .engine_for_one = true});
  EXPECT_FALSE(all.alone());
  EXPECT_FALSE(all.subgroup({0}).alone());
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kByte, at::kLong}) {
    const at::Tensor x = rows_of(3, 4, dtype).to(device), none = x.narrow(0, 0, 0);
    for (const at::Tensor& rows : {x, none}) {
      const int64_t n = rows.size(0);
      EXPECT_TRUE(at::equal(all.all_to_all(rows, {n}, {n}, "switch"), rows));
      EXPECT_TRUE(at::equal(all.all_gather(rows, {n}, "gather"), rows));
    }
    EXPECT_TRUE(at::equal(all.all_max(x, "max"), x));
    EXPECT_TRUE(at::equal(all.all_sum(x, "sum"), x));
    EXPECT_TRUE(at::equal(all.broadcast(x, 0, "broadcast"), x));
  }
  const at::Tensor part = at::arange(8, at::TensorOptions().dtype(at::kByte).device(device));
  Pending gathered = all.twin("weights").start_gather_into(at::zeros_like(part), part, "weights");
  all.barrier("barrier");
  EXPECT_TRUE(at::equal(gathered.wait(), part));
  EXPECT_EQ(journal->traffic().at("switch").calls, 8);
  for (const auto& [purpose, traffic] : journal->traffic()) {
    EXPECT_EQ(traffic.bytes, 0) << purpose;  // there are no other ranks
  }
}

TEST(ProcessGroup, OfOneWithGlooExchangesWithItself) {
  ::setenv("GLOO_SOCKET_IFNAME", "lo", 0);
  exchange_with_itself(Transport::kGloo, at::kCPU);
}

TEST(ProcessGroupCuda, OfOneWithNcclExchangesWithItself) {
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "needs a CUDA GPU";
  }
  exchange_with_itself(Transport::kNccl, at::kCUDA);
}

TEST(ProcessGroup, ARankThatDoesNotComeIsNoticedInTime) {
  run_ranks(2,
            [](const ProcessGroup& all) {
              if (all.rank() == 0) {
                EXPECT_THROW(all.barrier("wait"), RunError);
              } else {
                ::usleep(2'500'000);
              }
            },
            {.timeout = std::chrono::milliseconds(1000)});
}

TEST(ProcessGroup, ARankThatDiesIsNoticedAtOnce) {
  run_ranks(2,
            [](const ProcessGroup& all) {
              if (all.rank() == 1) {
                std::fflush(nullptr);
                ::_exit(0);
              }
              EXPECT_THROW(all.all_sum(at::ones({4}), "sum"), RunError);
            },
            {.timeout = std::chrono::seconds(100),
             .explain = [](const std::string&) { return "rank 1 has gone"; }});
}

TEST(Store, APortThatIsTakenIsRefused) {
  const Store store = Store::host(0, "`port`");
  EXPECT_THROW(Store::host(store.port(), "`port`"), InputError);
  EXPECT_THROW(Store::connect("127.0.0.1", 1, std::chrono::seconds(1)), RunError);
}

TEST(Store, KeepsTexts) {
  const Store store = Store::host(0, "`port`");
  EXPECT_FALSE(store.find("place").has_value());
  store.another().set("place", "here");
  EXPECT_EQ(store.find("place"), "here");
}

}  // namespace
}  // namespace ospnext
