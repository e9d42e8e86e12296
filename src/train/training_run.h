// The training loop: optimizer, EMA, learning rate, validation, log, checkpoints and resuming.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/cancel.h"
#include "core/progress.h"
#include "io/output_file.h"
#include "train/adaptive_clip.h"
#include "train/ema.h"
#include "train/learning_rate.h"
#include "train/objective.h"
#include "train/optimizer.h"
#include "train/step_costs.h"
#include "train/trained_parameters.h"
#include "train/training_checkpoint.h"
#include "train/training_log.h"

namespace ospnext {

inline constexpr const char* kOffloadOptimizerHelp =
    "keep AdamW's moments and the averaged weights in host memory; a step copies them to the "
    "device and back, chunk by chunk";

// Configuration that all trainings have. Flags, JSON fields and help texts come from visit().
struct TrainingConfig : LearningRateConfig {
  std::string output;  // folder of the checkpoint, the log and the finished model
  std::string device = "cpu";
  std::string precision = "float32";  // arithmetic; master weights and optimizer stay float32
  uint64_t seed = 0;
  int64_t steps = 1000;
  AdamWConfig adamw;
  double max_gradient_norm = 1.0;
  bool adaptive_clip = false;
  int64_t accumulate = 1;
  EmaConfig ema{.decay = 0.999, .every = 1, .warm_up = true};  // its averages are what is saved
  bool offload_optimizer = false;
  int64_t log_interval = 20;          // steps
  int64_t validation_interval = 0;    // steps; 0: never
  bool evaluate_averages = true;      // validation and samples use the averaged weights
  int64_t checkpoint_interval = 500;  // steps
  int64_t keep_checkpoints = 2;
  double max_seconds = 0;  // stop with a checkpoint after this time; 0: never
  // The program must have called compute_deterministically().
  bool deterministic = false;

  // Throws InputError naming flag, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("output", output, "folder of the checkpoint, the log and the finished model");
    field("device", device, "cpu or cuda");
    field("precision", precision, "arithmetic: float32 or bf16; master weights stay float32");
    field("seed", seed, "seed of every random draw");
    field("steps", steps, "optimizer steps in all");
    LearningRateConfig::visit(field);
    adamw.visit(field);
    field("max_gradient_norm", max_gradient_norm,
          "gradients are scaled down to this norm; the first one of adaptive_clip");
    field("adaptive_clip", adaptive_clip,
          "let the largest norm follow the norms of the gradients, as OSP-Next does");
    field("accumulate", accumulate, "passes whose gradients a step averages");
    ema.visit(field, "ema_");
    field("offload_optimizer", offload_optimizer, kOffloadOptimizerHelp);
    field("log_interval", log_interval, "steps between two rows of log.csv");
    field("validation_interval", validation_interval,
          "steps from one measurement on held-out clips to the next (0: none)");
    field("evaluate_averages", evaluate_averages,
          "validation and sample clips use the averaged weights, which are saved; false: the "
          "weights of the step");
    field("checkpoint_interval", checkpoint_interval, "steps between two checkpoints");
    field("keep_checkpoints", keep_checkpoints, "number of checkpoints that stay");
    field("max_seconds", max_seconds, "stop with a checkpoint after so many seconds (0: never)");
    field("deterministic", deterministic,
          "let GPUs add in a fixed order, so that a training that goes on from a checkpoint ends "
          "with the same bits; slower");
  }
};

// Makes the output folder, and keeps other trainings out of it while the result lives. Only the
// process that leads takes the lock; others get none. Throws InputError when another program trains
// there, RunError when the folder cannot be created.
std::unique_ptr<OutputLock> lock_output(const TrainingConfig& config, bool leads);

// Trains parameters on an objective. Goes on from the newest checkpoint in `output`/checkpoints, if
// there is one.
class TrainingRun {
 public:
  // All processes of the parameters make one, at the same time. Throws InputError for a checkpoint
  // of other parameters, of another objective or of more steps, RunError when the output folder
  // cannot be created. All references must outlive the object.
  TrainingRun(const TrainingConfig& config, TrainedParameters& parameters, Objective& objective,
              Progress& progress, const CancellationToken& cancel);

  // Runs steps until all are done (returns true) or max_seconds have passed (returns false). A step
  // has config.accumulate passes. Validation and samples come after each of their intervals and
  // after the last step. Writes a checkpoint before it returns and before it throws Cancelled.
  // Throws RunError when a number of the log is not finite.
  bool run();

  Ema& ema() { return ema_; }
  int64_t step() const { return step_; }

 private:
  enum class End { kNot, kOutOfTime, kCancelled };
  End end_of_time(bool out_of_time) const;
  bool is_done() const;
  bool is_due(int64_t interval) const;
  void step_once();
  Losses accumulate();
  void clip(Losses& log);
  void evaluate(const std::function<void()>& work);
  std::string write_log(const Scalars& validation);
  TrainingTensors tensors() const;
  void save_checkpoint();
  void load_checkpoint();

  TrainingConfig config_;
  TrainedParameters& parameters_;
  Objective& objective_;
  AdamW optimizer_;
  Ema ema_;
  AdaptiveClip adaptive_clip_;
  TrainingCheckpoints checkpoints_;
  Progress& progress_;
  const CancellationToken& cancel_;
  std::optional<TrainingLog> log_;  // opened when the checkpoint has given the step
  std::optional<StepCosts> costs_;  // while it runs
  int64_t step_ = 0;
  int64_t saved_step_ = -1;  // of the newest checkpoint
};

}  // namespace ospnext
