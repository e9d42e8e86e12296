// When a GPU worked, by its own clock.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ospnext {

// Nanoseconds since 1970.
struct Interval {
  int64_t begin, end;
  std::string name = {};  // of what ran
};

// Records what the GPUs run for this thread's process from construction to stop(): kernels, copies and fills, as CUPTI
// reports them to LibTorch's profiler. One at a time.
class GpuTrace {
 public:
  GpuTrace();
  ~GpuTrace();
  GpuTrace(const GpuTrace&) = delete;
  GpuTrace& operator=(const GpuTrace&) = delete;
  // Ends the recording. Nothing of what is still queued on a GPU is in it.
  std::vector<Interval> stop();

 private:
  bool recording_ = true;
};

// The clock of the intervals, now.
int64_t trace_clock();

// Of the time from the begin of the first to the end of the last interval that begins at `from` or later, the share
// in which none of them ran. Nothing when there is no such time.
std::optional<double> idle_share(std::vector<Interval> work, int64_t from = 0);

}  // namespace ospnext
