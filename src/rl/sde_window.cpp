#include "rl/sde_window.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/choice.h"
#include "core/number_check.h"
#include "core/torch/random.h"

namespace ospnext {
namespace {

enum class Algorithm { kOsp, kMix, kNft };
constexpr std::array<std::pair<const char*, Algorithm>, 3> kAlgorithms = {
    {{"osp", Algorithm::kOsp}, {"mix", Algorithm::kMix}, {"nft", Algorithm::kNft}}};

enum class Movement { kProgressive, kRandom, kDecaying };
constexpr std::array<std::pair<const char*, Movement>, 3> kMovements = {
    {{"progressive", Movement::kProgressive},
     {"random", Movement::kRandom},
     {"decaying", Movement::kDecaying}}};

constexpr int64_t kMostIterations = 1'000'000'000;

}  // namespace

void SdeWindowConfig::check(int64_t steps) const {
  const bool mix = one_of("`algorithm`", algorithm, kAlgorithms) == Algorithm::kMix;
  if (mix) {
    check_range("`steps` of a mix rollout", steps, int64_t{3}, int64_t{10000});
  }
  if (algorithm != "nft") {
    check_range("`sde_steps`", sde_steps, int64_t{1}, mix ? steps - 2 : steps);
  }
  one_of("`window`", window, kMovements);
  check_range("`window_stride`", window_stride, int64_t{0}, steps);
  check_range("`window_iterations`", window_iterations, int64_t{1}, kMostIterations);
  check_range("`flash_ratio`", flash_ratio, 0.0, 1.0);
  if (!mix && flash_ratio > 0) {
    throw InputError("`flash_ratio`: found with the algorithm " + algorithm +
                     ", expected with mix only");
  }
}

SdeWindow::SdeWindow(SdeWindowConfig config, int64_t steps, uint64_t seed)
    : config_(std::move(config)), steps_(steps), seed_(seed) {
  config_.check(steps);
  if (config_.algorithm == "mix" && config_.window == "random") {
    state_.begin = random_begin();
  }
}

StepRange SdeWindow::range() const {
  if (config_.algorithm != "mix") {
    return {0, config_.algorithm == "osp" ? config_.sde_steps : 0};
  }
  return {state_.begin, std::min(state_.begin + config_.sde_steps, limit())};
}

int64_t SdeWindow::random_begin() const {
  const auto places = static_cast<uint64_t>(limit() - config_.sde_steps + 1);
  const auto iteration = static_cast<uint64_t>(state_.iterations);
  return static_cast<int64_t>(derived_seed(seed_, "rollout window", iteration) % places);
}

int64_t SdeWindow::iterations_here() const {
  if (config_.window != "decaying") {
    return config_.window_iterations;
  }
  const int64_t fewest = std::max(int64_t{1}, config_.window_iterations / 4);
  const double way = static_cast<double>(state_.begin) / static_cast<double>(limit());
  const double now = static_cast<double>(config_.window_iterations) * (1 - way) +
                     static_cast<double>(fewest) * way;
  return std::max(fewest, static_cast<int64_t>(now));
}

void SdeWindow::advance() {
  ++state_.iterations;
  if (config_.algorithm != "mix") {
    return;
  }
  if (config_.window == "random") {
    state_.begin = random_begin();
    return;
  }
  if (++state_.stayed < iterations_here()) {
    return;
  }
  state_.stayed = 0;
  state_.begin += config_.window_stride;
  if (state_.begin >= limit()) {
    state_.begin = config_.roll_back ? 0 : limit() - 1;
  }
}

void SdeWindow::load(const SdeWindowState& state) {
  const int64_t last = config_.algorithm == "mix" ? limit() - 1 : 0;
  check_range("state of the window: begin", state.begin, int64_t{0}, last);
  check_range("state of the window: stayed", state.stayed, int64_t{0}, kMostIterations);
  check_range("state of the window: iterations", state.iterations, int64_t{0}, kMostIterations);
  state_ = state;
}

}  // namespace ospnext
