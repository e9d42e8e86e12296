#include "bench/timing.h"

#include <algorithm>
#include <chrono>

#ifdef OSPNEXT_CUDA
#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace ospnext {
namespace {

double milliseconds(const std::function<void()>& function, at::Device device) {
#ifdef OSPNEXT_CUDA
  if (device.is_cuda()) {
    const c10::cuda::CUDAGuard guard(device);
    at::cuda::CUDAEvent begin(cudaEventDefault), end(cudaEventDefault);
    begin.record();
    function();
    end.record();
    end.synchronize();
    return begin.elapsed_time(end);
  }
#endif
  constexpr double kMilliseconds = 1e3;
  return kMilliseconds * seconds_of(device, function);
}

}  // namespace

double seconds_of(at::Device device, const std::function<void()>& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  if (device.is_cuda()) {
    torch::cuda::synchronize(device.index());
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

std::vector<double> median_milliseconds(const std::vector<std::function<void()>>& functions,
                                        at::Device device, int64_t warmup, int64_t runs) {
  std::vector<std::vector<double>> times(functions.size());
  for (int64_t round = -warmup; round < runs; ++round) {
    for (size_t i = 0; i < functions.size(); ++i) {
      const double taken = milliseconds(functions[i], device);
      if (round >= 0) {
        times[i].push_back(taken);
      }
    }
  }
  std::vector<double> medians;
  for (const std::vector<double>& values : times) {
    medians.push_back(median(values));
  }
  return medians;
}

}  // namespace ospnext
