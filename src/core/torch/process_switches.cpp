#include "core/torch/process_switches.h"

#include <ATen/Context.h>
#include <malloc.h>

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

}  // namespace ospnext
