// Records when the GPU worked, by the clock of the profiler.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ospnext {

// Nanoseconds since 1970.
struct Interval {
  int64_t begin, end;
  std::string name = {};  // of the kernel, copy or fill
};

// Records all GPU work of this process from construction to stop(): kernels, copies and fills, as
// CUPTI reports them to LibTorch's profiler. Only one recording can run at a time.
class GpuTrace {
 public:
  GpuTrace();
  ~GpuTrace();
  GpuTrace(const GpuTrace&) = delete;
  GpuTrace& operator=(const GpuTrace&) = delete;
  // Ends the recording. Work that is still queued on a GPU is not included.
  std::vector<Interval> stop();

 private:
  bool recording_ = true;
};

// The current time, by the clock of the intervals.
int64_t trace_clock();

// The share of time in which no interval ran, between the start of the first and the end of the
// last interval. Only intervals that start at `from` or later count. Returns nothing if this span
// of time is empty.
std::optional<double> idle_share(std::vector<Interval> work, int64_t from = 0);

// A table of the work by name: milliseconds, share of all work, calls, and the name, cut to 90
// letters. The `most` longest rows, one row for the rest, and the idle share.
std::string kernel_table(const std::vector<Interval>& work, size_t most);

}  // namespace ospnext
