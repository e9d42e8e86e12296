// Tests that run on the CPU and, if there is one, on a CUDA device.
#pragma once

#include <gtest/gtest.h>

#include "core/torch/torch.h"

namespace ospnext {

// A suite that runs on several devices. Derive from it, use device(), and instantiate it with
// INSTANTIATE_ON_DEVICES(Suite).
class OnDevice : public ::testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == at::kCUDA && !torch::cuda::is_available()) {
      GTEST_SKIP() << "no CUDA device";
    }
    at::globalContext().setAllowTF32CuBLAS(false);  // compute float32 products in float32
    at::globalContext().setAllowTF32CuDNN(false);
  }
  at::Device device() const { return GetParam(); }
};

}  // namespace ospnext

#define INSTANTIATE_ON_DEVICES(suite)                                                 \
  INSTANTIATE_TEST_SUITE_P(On, suite, ::testing::Values(at::kCPU, at::kCUDA),         \
                           [](const ::testing::TestParamInfo<at::DeviceType>& info) { \
                             return info.param == at::kCPU ? "Cpu" : "Cuda";          \
                           })
