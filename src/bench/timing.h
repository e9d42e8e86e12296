// Timing of device work: medians of alternating runs.
#pragma once

#include <functional>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

double median(std::vector<double> values);  // the upper one of two; there is one at least

// Median milliseconds of each function, over `runs` rounds in which all run one after the other, so that a
// clock that sinks under load is shared by all; `warmup` rounds come first and do not count. On CUDA by
// events around each run on the current stream, else by the wall clock.
std::vector<double> median_milliseconds(const std::vector<std::function<void()>>& functions,
                                        at::Device device, int64_t warmup, int64_t runs);

}  // namespace ospnext
