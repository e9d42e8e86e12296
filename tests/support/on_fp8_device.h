// Tests of code for FP8 tensor cores. They run on the CPU, which computes the same slowly, and on a
// CUDA device with FP8 tensor cores.
#pragma once

#include "quant/hif8_linear.h"
#include "support/on_device.h"

namespace ospnext {

class OnFp8Device : public OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (!IsSkipped() && device().is_cuda() && !hif8::has_fp8_tensor_cores(device())) {
      GTEST_SKIP() << "no FP8 tensor cores";
    }
  }
};

}  // namespace ospnext
