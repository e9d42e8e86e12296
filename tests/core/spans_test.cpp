#include "core/torch/spans.h"

#include <chrono>

#include "support/on_device.h"

namespace ospnext {
namespace {

class SpansOnDevice : public OnDevice {};
INSTANTIATE_ON_DEVICES(SpansOnDevice);

TEST_P(SpansOnDevice, NestAndFollowEachOther) {
  Spans spans(device());
  {
    const Span stage(&spans, SpanKind::kStage, "denoise");
    Span block(&spans, SpanKind::kBlock, "full", 3);
    Span part(&spans, SpanKind::kPart, "attention");
    part.next("feed-forward");
    part.end();
    block.end();
    spans.begin(SpanKind::kExchange, "switch");
    spans.end(/*bytes=*/12);
  }
  spans.settle();
  const std::vector<SpanRecord>& records = spans.records();
  const std::vector<std::string> names = {"denoise", "full", "attention", "feed-forward", "switch"};
  const std::vector<int64_t> parents = {-1, 0, 1, 1, 0};
  ASSERT_EQ(records.size(), names.size());
  for (size_t i = 0; i < records.size(); ++i) {
    const SpanRecord& one = records[i];
    EXPECT_EQ(one.name, names[i]);
    EXPECT_EQ(one.parent, parents[i]) << one.name;
    EXPECT_EQ(one.number, one.name == "full" ? 3 : -1);
    EXPECT_EQ(one.bytes, one.name == "switch" ? 12 : 0);
    EXPECT_LE(one.begin, one.end);
    if (one.parent >= 0) {
      EXPECT_GE(one.begin, records[one.parent].begin) << one.name;
      EXPECT_LE(one.end, records[one.parent].end) << one.name;
    }
  }
  EXPECT_LE(records[2].end, records[3].begin);
}

// On a GPU, the host only queues the work, which takes much longer than the calls.
TEST_P(SpansOnDevice, LastAsLongAsTheDeviceWorks) {
  using Clock = std::chrono::steady_clock;
  at::Tensor x = at::ones({1 << 22}, device());
  x.add_(1);
  Spans spans(device());
  for (int round = 0; round < 2; ++round) {  // times continue after settle()
    const auto begin = Clock::now();
    {
      const Span span(&spans, SpanKind::kBlock, "work");
      for (int i = 0; i < (device().is_cuda() ? 2000 : 20); ++i) {
        x.add_(1);
      }
    }
    spans.settle();
    const double all = std::chrono::duration<double, std::nano>(Clock::now() - begin).count();
    const SpanRecord& work = spans.records().back();
    EXPECT_GT(static_cast<double>(work.end - work.begin), all / 2);
    EXPECT_LE(static_cast<double>(work.end - work.begin), all);
  }
  EXPECT_LE(spans.records()[0].end, spans.records()[1].begin);
}

TEST(Spans, NoneAreRecordedWhereNobodyAsks) {
  Span span(nullptr, SpanKind::kBlock, "full");
  span.next("head");
  span.end();
}

}  // namespace
}  // namespace ospnext
