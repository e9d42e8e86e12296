// Scores videos by many threads, for rewards that are computed here.
#pragma once

#include <functional>
#include <vector>

#include "core/cancel.h"
#include "io/readers/reward_scores.h"

namespace ospnext {

// judge(i) for each i of [0, count), by as many threads as LibTorch has; one that is done takes the
// next i. Throws what judge() throws, and Cancelled.
std::vector<VideoScore> score_each(int64_t count, const CancellationToken& cancel,
                                   const std::function<VideoScore(int64_t)>& judge);

}  // namespace ospnext
