// Advantages: how much better a video is than others of the same prompt.
#pragma once

#include <cstdint>

#include "core/torch/torch.h"

namespace ospnext {

struct Advantages {
  at::Tensor values;  // [n] float64
  at::Tensor kept;    // [n] bool: the samples of which the policy learns
};

// What a reward's distance from the mean of its group is divided by.
enum class SpreadOf { kGroup, kAll };

// OSP-Next's advantages. rewards [n, K] and weights [K], finite floating numbers; groups [n] int64,
// any numbers, equal for samples of one prompt; groups may differ in size. The K rewards of a
// sample are summed by weight to r; then
//   advantage = (r - mean of the group) / (population std of the group or of all + 1e-4),
// clamped to ±largest. Those that are not 0 are kept. In a group of one, or of equal sums, all are
// 0. Throws c10::Error for other shapes and for NaN.
// Source: OSP-Next train/train_osp_RL.py; Flow-GRPO flow_grpo/stat_tracking.py.
Advantages osp_advantages(const at::Tensor& rewards, const at::Tensor& weights,
                          const at::Tensor& groups, double largest = 5,
                          SpreadOf spread = SpreadOf::kGroup);

// MixGRPO's advantages, with the same arguments: for each reward by itself
//   (reward - mean of the group) / (sample std of the group + 1e-8),
// then the sum of these by weight. All samples are kept. In a group of one, or of equal rewards,
// the part of this reward is 0.
// Source: MixGRPO fastvideo/train_grpo_flux.py (multi_reward_mix advantage_aggr).
Advantages mix_advantages(const at::Tensor& rewards, const at::Tensor& weights,
                          const at::Tensor& groups);

// Takes dropped samples back, drawn with `generator`, until the number of kept ones is a multiple
// of `multiple`, which divides n. If all were dropped, all are kept, with 1e-6 added to their
// advantages. Source: OSP-Next train/train_osp_RL.py.
Advantages refilled(const Advantages& advantages, int64_t multiple, at::Generator generator);

}  // namespace ospnext
