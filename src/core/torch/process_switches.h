// Settings of LibTorch and of the C library that hold for the whole process.
#pragma once

namespace ospnext {

// What a command needs; the program sets it once, before the command runs.
struct ProcessSwitches {
  bool try_convolutions = false;   // cuDNN times its algorithms: pays for few shapes used often
  bool keep_freed_memory = false;  // the heap keeps up to 512 MiB, for large tensors made often
};

// Sets the switches, and for every command that float32 on a GPU is float32: TF32 is off in matrix
// products and convolutions.
void set_process_switches(const ProcessSwitches& switches);

// From here on, kernels on GPUs add in a fixed order, so that the same work gives the same bits:
// cuBLAS, cuDNN, LibTorch's own kernels, and where ours ask LibTorch for its choice. A function of
// LibTorch that has no such order throws. It is slower. Call it before the first CUDA call, because
// cuBLAS reads its environment only once.
// Source: NVIDIA's cuBLAS documentation, "Results reproducibility", for CUBLAS_WORKSPACE_CONFIG.
void compute_deterministically();

}  // namespace ospnext
