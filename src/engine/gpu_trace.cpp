#include "engine/gpu_trace.h"

#include <c10/util/ApproximateClock.h>
#include <kineto/ActivityType.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdio>
#include <map>
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

std::string kernel_table(const std::vector<Interval>& work, size_t most) {
  constexpr double kMillion = 1e6;  // nanoseconds in a millisecond
  constexpr size_t kLetters = 90;
  struct Row {
    std::string name;
    int64_t nanoseconds = 0, calls = 0;
  };
  std::map<std::string, Row> by_name;
  int64_t all = 0;
  for (const Interval& one : work) {
    Row& row = by_name[one.name];
    row.name = one.name.substr(0, kLetters);
    row.nanoseconds += one.end - one.begin;
    ++row.calls;
    all += one.end - one.begin;
  }
  std::vector<Row> rows;
  for (const auto& [name, row] : by_name) {
    rows.push_back(row);
  }
  std::ranges::sort(rows, std::ranges::greater(), &Row::nanoseconds);
  if (rows.size() > most) {
    Row rest{.name = std::to_string(rows.size() - most) + " others"};
    for (size_t i = most; i < rows.size(); ++i) {
      rest.nanoseconds += rows[i].nanoseconds;
      rest.calls += rows[i].calls;
    }
    rows.resize(most);
    rows.push_back(rest);
  }
  std::string table = "       ms    share    calls\n";
  char text[160];
  for (const Row& row : rows) {
    std::snprintf(text, sizeof text, "%9.2f%7.1f %%%9lld  %s\n",
                  static_cast<double>(row.nanoseconds) / kMillion,
                  100 * static_cast<double>(row.nanoseconds) / static_cast<double>(all),
                  static_cast<long long>(row.calls), row.name.c_str());
    table += text;
  }
  std::snprintf(text, sizeof text, "the GPU was idle for %.1f %% of the time\n",
                100 * idle_share(work).value_or(0));
  return table + text;
}

}  // namespace ospnext
