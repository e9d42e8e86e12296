// Spans: when the parts of a run began and ended, measured on the device that does the work.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

// Kinds of spans, from the outermost to the innermost: a span lies inside spans of earlier kinds.
enum class SpanKind {
  kStage,     // a stage of the pipeline
  kStep,      // a denoising step
  kPass,      // a forward pass of the transformer
  kBlock,     // a block of the transformer, or embedding, switch and head beside the blocks
  kPart,      // a part of a block
  kExchange,  // a collective between ranks
  kKernel,    // a GPU kernel; it lies inside no other span
};

struct SpanRecord {
  SpanKind kind = SpanKind::kStage;
  std::string name = {};
  int64_t number = -1;         // number among spans of its kind; -1 if they are not numbered
  int64_t parent = -1;         // index of the enclosing record, which comes before; -1: none
  int64_t begin = 0, end = 0;  // nanoseconds since 1970
  int64_t bytes = 0;           // bytes that an exchange sent to other ranks
};

// Records nested spans. On a CPU, begin and end are the times of the calls. On a GPU, they are the
// times at which the current stream reaches these points, measured with CUDA events; the host does
// not wait for them before settle(). For one thread; not while a CUDA graph is recorded.
class Spans {
 public:
  explicit Spans(at::Device device);
  ~Spans();
  Spans(const Spans&) = delete;
  Spans& operator=(const Spans&) = delete;

  void begin(SpanKind kind, std::string_view name, int64_t number = -1);
  // Ends the innermost open span.
  void end(int64_t bytes = 0);
  // Waits for the GPU and fills in the times of all spans so far. Call it where the host waits for
  // the GPU anyway; there it costs nothing.
  void settle();
  // The records in the order of begin(). An open span has no end yet. On a GPU, spans since the
  // last settle() have no times yet.
  const std::vector<SpanRecord>& records() const { return records_; }

 private:
  struct GpuClock;
  void stamp(int64_t record, bool is_end);

  std::vector<SpanRecord> records_;
  std::vector<int64_t> open_;      // records of the open spans, outermost first
  std::unique_ptr<GpuClock> gpu_;  // null on a CPU
};

// A span that lasts as long as this object, or until end(). With a null `spans` it does nothing.
class Span {
 public:
  Span(Spans* spans, SpanKind kind, std::string_view name, int64_t number = -1)
      : spans_(spans), kind_(kind) {
    next(name, number);
  }
  ~Span();
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  // Ends the current span and begins another one of the same kind.
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
