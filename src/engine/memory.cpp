#include "engine/memory.h"

#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>
#include <utility>

namespace ospnext {
namespace {

// The value of "key:  12345 kB" in a file of /proc, in bytes; 0 if the key is missing.
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

// The number in a file of the control group, or `otherwise` if there is no number ("max") or no
// file.
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
    at::globalContext().lazyInitDevice(at::kCUDA);
    auto* const allocator = at::getDeviceAllocator(at::kCUDA);
    const auto stats = allocator->getDeviceStats(index_of(device));
    return static_cast<int64_t>(allocator->getMemoryInfo(index_of(device)).first) +
           stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
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
    peak.cuda_bytes = stats.allocated_bytes[0].peak;  // [0]: sum over all pools
  }
  return peak;
}

void release_cached_memory(at::Device device) {
  if (device.is_cuda()) {
    at::getDeviceAllocator(at::kCUDA)->emptyCache();
  }
}

void reset_peak_memory(at::Device device) {
  release_cached_memory(device);
  if (device.is_cuda()) {
    at::getDeviceAllocator(at::kCUDA)->resetPeakStats(index_of(device));
  }
}

int64_t vae_decode_bytes(const VaeConfig& vae, int64_t height, int64_t width, at::ScalarType dtype,
                         at::Device device) {
  constexpr double kOnTop = 1.2;            // convolution workspaces and gaps between blocks
  constexpr int64_t kAlways = 512ll << 20;  // bytes, for frames of any size
  constexpr int64_t kHistory = 2;           // previous frames that a convolution reads
  // Copies of the input that the norm makes where no single kernel computes it.
  const int64_t norm_copies = device.is_cuda() ? 0 : 2;
  // Values per pixel of the frame. Each level has a quarter of the pixels of the next larger level.
  double remembered = 0, largest = 0;
  int64_t width_in = vae.dim * vae.dim_mult.back(), frames = 1;  // of one piece
  double share = 1.0 / static_cast<double>(vae.spatial_factor() * vae.spatial_factor());
  const auto convolution = [&](int64_t channels) {
    remembered += share * static_cast<double>(kHistory * channels);
  };
  // The block's input and output, the extended input of its widest convolution, and the norm's
  // copies.
  const auto block = [&](int64_t in, int64_t out) {
    convolution(in);
    convolution(out);
    const int64_t widest = std::max(in, out);
    largest = std::max(
        largest, share * static_cast<double>(frames * (in + out) + (frames + kHistory) * widest +
                                             norm_copies * frames * widest));
  };
  convolution(vae.z_dim);
  block(width_in, width_in);
  block(width_in, width_in);
  for (size_t level = vae.dim_mult.size(); level-- > 0;) {
    const int64_t width_out = vae.dim * vae.dim_mult[level];
    for (int64_t i = 0; i <= vae.num_res_blocks; ++i) {
      block(std::exchange(width_in, width_out), width_out);
    }
    if (level > 0) {
      int64_t before = frames;
      if (vae.temperal_downsample[level - 1]) {
        convolution(width_in);
        frames *= 2;
        before += frames;
      }
      // Frames before and after upsampling in time, enlarged, and the output with half as many
      // channels.
      largest =
          std::max(largest, share * static_cast<double>(width_in * (before + frames * (4 + 2))));
      width_in /= 2;
      share *= 4;
    }
  }
  convolution(width_in);
  const double values =
      (remembered + largest) * static_cast<double>(height) * static_cast<double>(width);
  return kAlways +
         static_cast<int64_t>(kOnTop * values * static_cast<double>(at::elementSize(dtype)));
}

std::optional<VaeTiling> resolve_vae_tiling(const std::string& setting, const VaeConfig& vae,
                                            int64_t height, int64_t width, at::ScalarType dtype,
                                            at::Device device, int64_t free) {
  if (setting != "auto") {
    return parse_vae_tiling(setting, vae);
  }
  const VaeTiling usual;
  const bool fits = free == 0 || vae_decode_bytes(vae, height, width, dtype, device) <= free;
  return fits || !usual.cuts(height, width) ? std::nullopt : std::optional(usual);
}

}  // namespace ospnext
