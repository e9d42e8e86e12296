#include "rl/advantages.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <vector>

#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

using Numbers = std::vector<double>;
using Members = std::vector<size_t>;

std::vector<Members> members_of(const at::Tensor& groups) {
  const at::Tensor ids = groups.to(at::kCPU).contiguous();
  std::map<int64_t, Members> found;
  for (int64_t i = 0; i < ids.size(0); ++i) {
    found[ids.const_data_ptr<int64_t>()[i]].push_back(static_cast<size_t>(i));
  }
  std::vector<Members> groups_found;
  groups_found.reserve(found.size());
  for (auto& [id, members] : found) {
    groups_found.push_back(std::move(members));
  }
  return groups_found;
}

Numbers numbers_of(const at::Tensor& tensor) {  // [n]
  const at::Tensor values = tensor.to(at::kCPU, at::kDouble).contiguous();
  return {values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel()};
}

double mean_of(const Numbers& values, const Members& members) {
  double sum = 0;
  for (const size_t i : members) {
    sum += values[i];
  }
  return sum / static_cast<double>(members.size());
}

// The square root of the sum of squared distances from the mean over (members - freedom).
double std_of(const Numbers& values, const Members& members, double freedom) {
  const double mean = mean_of(values, members);
  double sum = 0;
  for (const size_t i : members) {
    sum += (values[i] - mean) * (values[i] - mean);
  }
  return std::sqrt(sum / (static_cast<double>(members.size()) - freedom));
}

// Whether the members differ. Without this test, the rounding of their mean would give equal
// rewards tiny advantages.
bool differ(const Numbers& values, const Members& members) {
  return std::any_of(members.begin(), members.end(),
                     [&](size_t i) { return values[i] != values[members.front()]; });
}

void check_rewards(const at::Tensor& rewards, const at::Tensor& weights, const at::Tensor& groups) {
  CHECK_SHAPE(rewards, groups.size(0), weights.size(0));
  TORCH_CHECK(groups.size(0) > 0 && weights.size(0) > 0, "rewards: expected some");
  TORCH_CHECK(groups.scalar_type() == at::kLong, "groups: expected int64");
  TORCH_CHECK(at::isfinite(rewards).all().item<bool>() && at::isfinite(weights).all().item<bool>(),
              "rewards and weights: expected finite numbers");
}

}  // namespace

Advantages osp_advantages(const at::Tensor& rewards, const at::Tensor& weights,
                          const at::Tensor& groups, double largest, SpreadOf spread) {
  check_rewards(rewards, weights, groups);
  constexpr double kFloor = 1e-4;
  const at::Tensor summed = rewards.to(at::kDouble).mul(weights.to(at::kDouble)).sum(1);  // [n]
  const Numbers sums = numbers_of(summed);
  Members all(sums.size());
  std::iota(all.begin(), all.end(), size_t{0});
  Numbers values(sums.size(), 0);
  for (const Members& members : members_of(groups)) {
    if (!differ(sums, members)) {
      continue;
    }
    const double mean = mean_of(sums, members);
    const double std = std_of(sums, spread == SpreadOf::kGroup ? members : all, 0);
    for (const size_t i : members) {
      values[i] = std::clamp((sums[i] - mean) / (std + kFloor), -largest, largest);
    }
  }
  const at::Tensor advantages = at::tensor(values, at::kDouble);
  return {advantages, advantages != 0};
}

Advantages mix_advantages(const at::Tensor& rewards, const at::Tensor& weights,
                          const at::Tensor& groups) {
  check_rewards(rewards, weights, groups);
  constexpr double kFloor = 1e-8;
  const Numbers shares = numbers_of(weights);
  const std::vector<Members> all_members = members_of(groups);
  Numbers values(static_cast<size_t>(groups.size(0)), 0);
  for (size_t k = 0; k < shares.size(); ++k) {
    const Numbers of_reward = numbers_of(rewards.select(1, static_cast<int64_t>(k)));
    for (const Members& members : all_members) {
      if (!differ(of_reward, members)) {
        continue;
      }
      const double mean = mean_of(of_reward, members);
      const double std = std_of(of_reward, members, 1);
      for (const size_t i : members) {
        values[i] += shares[k] * (of_reward[i] - mean) / (std + kFloor);
      }
    }
  }
  const at::Tensor advantages = at::tensor(values, at::kDouble);
  return {advantages, at::ones_like(advantages, at::kBool)};
}

Advantages refilled(const Advantages& advantages, int64_t multiple, at::Generator generator) {
  const int64_t n = advantages.kept.size(0);
  TORCH_CHECK(multiple > 0 && n % multiple == 0, "refilled: ", n, " samples in parts of ",
              multiple);
  const at::Tensor dropped = advantages.kept.logical_not().nonzero().flatten();  // [dropped]
  const int64_t kept = n - dropped.size(0);
  if (kept == 0) {
    constexpr double kTiny = 1e-6;
    return {advantages.values + kTiny, at::ones_like(advantages.kept)};
  }
  const int64_t missing = (multiple - kept % multiple) % multiple;
  const at::Tensor order = at::randperm(dropped.size(0), std::move(generator));
  at::Tensor now = advantages.kept.clone();
  now.index_fill_(0, dropped.index_select(0, order.slice(0, 0, missing)), true);
  return {advantages.values, now};
}

}  // namespace ospnext
