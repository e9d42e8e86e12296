// Memory: what is free, the most that was used, and what decoding needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/torch/torch.h"
#include "models/vae_tiling.h"

namespace ospnext {

// Bytes that `device` can still give, 0 when that is not known. On the CPU what the kernel calls
// available, at most what a memory limit of the control group leaves; on CUDA also what LibTorch holds
// without using it.
int64_t free_memory(at::Device device);

struct PeakMemory {
  int64_t host_bytes = 0;  // largest resident set, mapped files included
  int64_t cuda_bytes = 0;  // largest allocation of LibTorch; 0 without a GPU
};
// Since the start of the program; on the GPU, since the last reset_peak_memory().
PeakMemory peak_memory(at::Device device);
// Gives what LibTorch holds of the GPU's memory without using it back, and measures the peak from here on.
void reset_peak_memory(at::Device device);

// An estimate from above of the bytes that Vae::decode() of one video takes on a device, weights apart: what
// the decoder remembers of the frames before (two frames of every convolution's input) and the
// working set of its largest layer, times 1.2, and 512 MiB. It grows with the frame's area, not
// with the clip's length. docs/vae_tiling.md compares it with what was measured.
int64_t vae_decode_bytes(const VaeConfig& vae, int64_t height, int64_t width, at::ScalarType dtype,
                         at::Device device);

// How a video of this size is decoded when --vae-tile is `setting`: whole ("none"), in those tiles
// ("256,192"), or ("auto") whole unless that is estimated to take more than `free` bytes of the device, 0 being
// unknown; then in diffusers' tiles. Throws InputError.
std::optional<VaeTiling> resolve_vae_tiling(const std::string& setting, const VaeConfig& vae,
                                            int64_t height, int64_t width, at::ScalarType dtype,
                                            at::Device device, int64_t free);

}  // namespace ospnext
