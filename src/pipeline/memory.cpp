#include "pipeline/memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace ospnext {
namespace {

// The value of "key:  12345 kB" in a file of /proc, in bytes; 0 when it is not there.
int64_t proc_bytes(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string word; in >> word;) {
    if (word == key) {
      int64_t kibibytes = 0;
      in >> kibibytes;
      return kibibytes * 1024;
    }
  }
  return 0;
}

// The number in a file of the control group; `otherwise` when there is none ("max", no file).
int64_t group_bytes(const char* file, int64_t otherwise) {
  int64_t bytes = 0;
  return std::ifstream(file) >> bytes ? bytes : otherwise;
}

at::DeviceIndex index_of(at::Device device) {
  return device.has_index() ? device.index() : 0;
}

}  // namespace

int64_t free_memory(at::Device device) {
  if (device.is_cuda()) {
    return static_cast<int64_t>(
        at::getDeviceAllocator(at::kCUDA)->getMemoryInfo(index_of(device)).first);
  }
  constexpr int64_t kNoLimit = std::numeric_limits<int64_t>::max();
  const int64_t limit = group_bytes("/sys/fs/cgroup/memory.max", kNoLimit);
  const int64_t used = group_bytes("/sys/fs/cgroup/memory.current", 0);
  return std::clamp<int64_t>(limit - used, 0, proc_bytes("/proc/meminfo", "MemAvailable:"));
}

PeakMemory peak_memory(at::Device device) {
  PeakMemory peak;
  peak.host_bytes = proc_bytes("/proc/self/status", "VmHWM:");
  if (device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(at::kCUDA)->getDeviceStats(index_of(device));
    peak.cuda_bytes = stats.allocated_bytes[0].peak;  // [0]: over all pools
  }
  return peak;
}

}  // namespace ospnext
