// When the parts of a run began and ended, by the clock of the device that does the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// From the outside to the inside: a kind lies in those before it.
enum class SpanKind {
  kStage,     // of the pipeline
  kStep,      // of denoising
  kPass,      // of the transformer
  kBlock,     // of the transformer, or what stands beside its blocks
  kPart,      // of a block
  kExchange,  // between ranks
  kKernel,    // of a GPU; in nothing
};

// Something that took time.
struct SpanRecord {
  SpanKind kind = SpanKind::kStage;
  std::string name = {};
  int64_t number = -1;         // which of its kind; -1 where nobody counts
  int64_t parent = -1;         // the record it lies in, which stands before it; -1: none
  int64_t begin = 0, end = 0;  // nanoseconds since 1970
  int64_t bytes = 0;           // that an exchange sent to other ranks
};

// Records spans, which nest. On a CPU a time is that of the call. On a GPU it is when its current stream gets there,
// taken by CUDA events that nobody waits for before settle(). For one thread; not while a CUDA graph is recorded.
class Spans {
 public:
  explicit Spans(at::Device device);
  ~Spans();
  Spans(const Spans&) = delete;
  Spans& operator=(const Spans&) = delete;

  void begin(SpanKind kind, std::string_view name, int64_t number = -1);
  // Ends the span that began last.
  void end(int64_t bytes = 0);
  // Waits for the GPU and fills in the times up to here: costs nothing where the GPU was waited for anyway.
  void settle();
  // In the order of their begins. Those that go on have no end yet, those since settle() on a GPU no times.
  const std::vector<SpanRecord>& records() const { return records_; }

 private:
  struct GpuClock;
  void stamp(int64_t record, bool is_end);

  std::vector<SpanRecord> records_;
  std::vector<int64_t> open_;
  std::unique_ptr<GpuClock> gpu_;  // null on a CPU
};

// A span as long as the object lives, or until end(); nothing where `spans` is null.
class Span {
 public:
  Span(Spans* spans, SpanKind kind, std::string_view name, int64_t number = -1)
      : spans_(spans), kind_(kind) {
    next(name, number);
  }
  ~Span();
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  // Ends it, and begins another of its kind.
  void next(std::string_view name, int64_t number = -1) {
    end();
    if (spans_ != nullptr) {
      spans_->begin(kind_, name, number);
      is_open_ = true;
    }
  }
  void end() {
    if (is_open_) {
      is_open_ = false;
      spans_->end();
    }
  }

 private:
  Spans* const spans_;
  const SpanKind kind_;
  bool is_open_ = false;
};

}  // namespace ospnext
