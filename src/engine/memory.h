// Memory: the free amount, the peak, and an estimate for decoding.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/torch/torch.h"
#include "models/vae_tiling.h"

namespace ospnext {

// Bytes that can still be allocated on `device`, or 0 if unknown. On the CPU: the kernel's
// MemAvailable, limited by the memory limit of the control group. On CUDA: free memory, plus memory
// that LibTorch has cached but does not use.
int64_t free_memory(at::Device device);

struct PeakMemory {
  int64_t host_bytes = 0;  // peak resident set, including mapped files
  int64_t cuda_bytes = 0;  // peak allocation of LibTorch; 0 without a GPU
};
// The peak since the start of the program; on a GPU, since the last reset_peak_memory().
PeakMemory peak_memory(at::Device device);
// Returns cached but unused GPU memory of LibTorch to the driver.
void release_cached_memory(at::Device device);
// The same, and restarts the measurement of the peak.
void reset_peak_memory(at::Device device);

// An upper estimate, in bytes, of the memory that Vae::decode() needs for one video on a device,
// without weights: the history that the decoder keeps (two frames of every convolution's input)
// plus the working set of its largest layer, times 1.2, plus 512 MiB. It grows with the area of a
// frame, not with the length of the clip. docs/vae_tiling.md compares it with measurements.
int64_t vae_decode_bytes(const VaeConfig& vae, int64_t height, int64_t width, at::ScalarType dtype,
                         at::Device device);

// How to decode a video of this size, given the value `setting` of `vae_tile`. "none": as a whole.
// "256,192": in tiles of that size and stride. "auto": as a whole, unless the estimate exceeds the
// `free` bytes of the device (0: unknown); then in diffusers' tiles. Throws InputError.
std::optional<VaeTiling> resolve_vae_tiling(const std::string& setting, const VaeConfig& vae,
                                            int64_t height, int64_t width, at::ScalarType dtype,
                                            at::Device device, int64_t free);

}  // namespace ospnext
