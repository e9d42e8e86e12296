// What epochs of reinforcement learning cost, part by part, and its tables.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "train/objective.h"

namespace ospnext {

// Seconds of one epoch.
struct EpochCost {
  double rollouts = 0;  // sampling, with the log-probabilities of the noisy steps
  double decode = 0;
  double reward = 0;     // the wait for scores after the last video was decoded
  double update = 0;     // forward and backward passes, and the loss
  double optimizer = 0;  // mean gradients, clipping, AdamW, averages
  double whole = 0;
  int64_t passes = 0;  // of update

  // What belongs to none of the parts: advantages, the order of updates, and old log-probabilities
  // that are computed again.
  double rest() const { return whole - rollouts - decode - reward - update - optimizer; }
  // Takes the seconds that a pass of PolicyObjective tells: its own, and those of what came before
  // the updates of its epoch.
  void add(const Pass& pass);
};

// Costs of one process.
struct RlCost {
  std::vector<EpochCost> epochs;
  int64_t rollouts = 0;          // of an epoch, on each part of the mesh
  std::vector<double> sampling;  // seconds of the engine alone for the steps of one rollout
  std::vector<double> passes;    // seconds of one update's forward and backward passes alone
  std::optional<double> idle;    // share of the epochs in which the GPU ran nothing
};

// The parts of an epoch, medians over the epochs, with their shares, and the idle share.
std::string parts_table(const RlCost& cost);
// A rollout beside the engine's sampling, and an update beside its passes.
std::string comparisons(const RlCost& cost);

}  // namespace ospnext
