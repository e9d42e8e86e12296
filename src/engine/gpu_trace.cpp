#include "engine/gpu_trace.h"

#include <c10/util/ApproximateClock.h>
#include <kineto/ActivityType.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <set>

namespace ospnext {
namespace {

namespace profiler = torch::autograd::profiler;

// Kernels, copies and fills. Waits of a stream are reported as events of a GPU, too, but are not
// work.
bool is_work(const profiler::KinetoEvent& event) {
  using libkineto::ActivityType;
  const auto type = static_cast<ActivityType>(event.activityType());
  return type == ActivityType::CONCURRENT_KERNEL || type == ActivityType::GPU_MEMCPY ||
         type == ActivityType::GPU_MEMSET;
}

}  // namespace

GpuTrace::GpuTrace() {
  const std::set<profiler::ActivityType> gpu_only = {profiler::ActivityType::CUDA};
  const profiler::ProfilerConfig config(profiler::ProfilerState::KINETO);
  profiler::prepareProfiler(config, gpu_only);
  profiler::enableProfiler(config, gpu_only);
}

GpuTrace::~GpuTrace() {
  if (recording_) {
    stop();
  }
}

std::vector<Interval> GpuTrace::stop() {
  recording_ = false;
  const auto result = profiler::disableProfiler();
  std::vector<Interval> work;
  for (const profiler::KinetoEvent& event : result->events()) {
    if (is_work(event)) {
      work.push_back({static_cast<int64_t>(event.startNs()), static_cast<int64_t>(event.endNs()),
                      event.name()});
    }
  }
  return work;
}

int64_t trace_clock() {
  return c10::getTime();
}

std::optional<double> idle_share(std::vector<Interval> work, int64_t from) {
  std::erase_if(work, [&](const Interval& one) { return one.begin < from; });
  std::ranges::sort(work, {}, &Interval::begin);
  int64_t idle = 0, reached = work.empty() ? 0 : work.front().begin;
  for (const Interval& one : work) {
    idle += std::max<int64_t>(one.begin - reached, 0);
    reached = std::max(reached, one.end);
  }
  if (work.empty() || reached == work.front().begin) {
    return std::nullopt;
  }
  return static_cast<double>(idle) / static_cast<double>(reached - work.front().begin);
}

}  // namespace ospnext
