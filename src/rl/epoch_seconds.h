// Seconds of the parts of an epoch, for the log.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <type_traits>
#include <utility>

#include "core/torch/torch.h"
#include "train/objective.h"

namespace ospnext {

class EpochSeconds {
 public:
  explicit EpochSeconds(at::Device device) : device_(device) {}

  // Does the work, and adds its seconds to those of `part`. Waits for the GPU.
  template <class Work>
  auto timed(const std::string& part, const Work& work) {
    const auto began = std::chrono::steady_clock::now();
    if constexpr (std::is_void_v<decltype(work())>) {
      work();
      add(part, began);
    } else {
      auto result = work();
      add(part, began);
      return result;
    }
  }

  // "seconds/PART" of all parts so far; begins anew.
  Scalars take() {
    Scalars all;
    for (const auto& [part, seconds] : std::exchange(seconds_, {})) {
      all.emplace_back("seconds/" + part, seconds);
    }
    return all;
  }

 private:
  void add(const std::string& part, std::chrono::steady_clock::time_point began) {
    if (device_.is_cuda()) {
      torch::cuda::synchronize(device_.index());
    }
    seconds_[part] +=
        std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  }

  at::Device device_;
  std::map<std::string, double> seconds_;
};

}  // namespace ospnext
