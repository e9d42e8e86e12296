#include "core/torch/process_switches.h"

#include <ATen/Context.h>
#include <malloc.h>

#include <cstdlib>

namespace ospnext {

void set_process_switches(const ProcessSwitches& switches) {
  at::globalContext().setAllowTF32CuBLAS(false);
  at::globalContext().setAllowTF32CuDNN(false);
  at::globalContext().setBenchmarkCuDNN(switches.try_convolutions);
  if (switches.keep_freed_memory) {
    mallopt(M_MMAP_THRESHOLD, 256 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
  }
}

void compute_deterministically() {
  at::Context& context = at::globalContext();
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/1);  // 8 x 4096 KiB a stream
  context.setDeterministicAlgorithms(true, /*warn_only=*/false);
  context.setDeterministicCuDNN(true);
  context.setBenchmarkCuDNN(false);  // the fastest algorithm may be another one in the next run
  // Filling tensors that are not initialised would only help to find errors.
  context.setDeterministicFillUninitializedMemory(false);
}

}  // namespace ospnext
