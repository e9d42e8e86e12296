#include "core/torch/spans.h"

#include <chrono>
#include <cmath>
#include <exception>
#include <utility>

#ifdef OSPNEXT_CUDA
#include <c10/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAStream.h>
#endif

namespace ospnext {
namespace {

int64_t now() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(since_1970).count();
}

}  // namespace

#ifdef OSPNEXT_CUDA

// CUDA gives only the time between two events, in milliseconds as float32. To keep it exact, times
// are measured from a recent origin: the last event that was read.
struct Spans::GpuClock {
  using Event = c10::cuda::CUDAEvent;
  struct Mark {
    int64_t record;
    bool is_end;
    Event event;
  };

  explicit GpuClock(at::Device device) : device(device), origin(cudaEventDefault) {
    origin.record(stream());
    origin.synchronize();
    origin_time = now();
  }

  c10::cuda::CUDAStream stream() const { return c10::cuda::getCurrentCUDAStream(device.index()); }

  void mark(int64_t record, bool is_end) {
    if (spare.empty()) {
      spare.emplace_back(cudaEventDefault);
    }
    spare.back().record(stream());
    marks.push_back({record, is_end, std::move(spare.back())});
    spare.pop_back();
  }

  void read(std::vector<SpanRecord>& records) {
    if (marks.empty()) {
      return;
    }
    constexpr double kNanoseconds = 1e6;  // per millisecond
    int64_t time = origin_time;
    for (const auto& [record, is_end, event] : marks) {
      event.synchronize();
      time = origin_time + std::llround(kNanoseconds * origin.elapsed_time(event));
      (is_end ? records[record].end : records[record].begin) = time;
    }
    origin_time = time;
    std::swap(origin, marks.back().event);
    for (Mark& mark : marks) {
      spare.push_back(std::move(mark.event));
    }
    marks.clear();
  }

  at::Device device;
  Event origin;
  int64_t origin_time = 0;
  std::vector<Mark> marks;   // their times are not read yet
  std::vector<Event> spare;  // events for reuse
};

Spans::Spans(at::Device device)
    : gpu_(device.is_cuda() ? std::make_unique<GpuClock>(device) : nullptr) {}

void Spans::settle() {
  if (gpu_) {
    gpu_->read(records_);
  }
}

void Spans::stamp(int64_t record, bool is_end) {
  if (gpu_) {
    gpu_->mark(record, is_end);
  } else {
    (is_end ? records_[record].end : records_[record].begin) = now();
  }
}

#else

struct Spans::GpuClock {};
Spans::Spans(at::Device /*device*/) {}
void Spans::settle() {}
void Spans::stamp(int64_t record, bool is_end) {
  (is_end ? records_[record].end : records_[record].begin) = now();
}

#endif

Spans::~Spans() = default;

void Spans::begin(SpanKind kind, std::string_view name, int64_t number) {
  const int64_t parent = open_.empty() ? -1 : open_.back();
  open_.push_back(std::ssize(records_));
  records_.push_back({.kind = kind, .name = std::string(name), .number = number, .parent = parent});
  stamp(open_.back(), /*is_end=*/false);
}

void Spans::end(int64_t bytes) {
  TORCH_CHECK(!open_.empty(), "spans: none is open");
  const int64_t record = open_.back();
  open_.pop_back();
  records_[record].bytes = bytes;
  stamp(record, /*is_end=*/true);
}

Span::~Span() {
  try {
    end();
  } catch (const std::exception&) {
    // The GPU has failed. The next call that waits for it reports the error.
  }
}

}  // namespace ospnext
