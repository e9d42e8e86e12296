// Timing of device work: medians of alternating runs.
#pragma once

#include <functional>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

double median(std::vector<double> values);  // the upper one of two; needs at least one value

// Seconds of the work by the wall clock, until the device has done it.
double seconds_of(at::Device device, const std::function<void()>& work);

// Median milliseconds of each function over `runs` rounds. In each round all functions run one
// after the other, so that a clock that slows down under load affects all of them equally. `warmup`
// rounds run first and do not count. On CUDA the time is taken by events around each run on the
// current stream, otherwise by the wall clock.
std::vector<double> median_milliseconds(const std::vector<std::function<void()>>& functions,
                                        at::Device device, int64_t warmup, int64_t runs);

}  // namespace ospnext
