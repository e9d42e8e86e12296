// The training loop: optimizer, EMA, learning-rate schedule, log, checkpoints and resuming.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "io/output_file.h"
#include "train/adaptive_clip.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "train/trained_parameters.h"
#include "train/training_checkpoint.h"
#include "train/training_log.h"

namespace ospnext {

// Configuration that all trainings have. Flags, JSON fields and help texts come from visit().
struct TrainingConfig {
  std::string output;  // folder of the checkpoint, the log and the finished model
  std::string device = "cpu";
  std::string precision = "float32";  // arithmetic; master weights and optimizer stay float32
  uint64_t seed = 0;
  int64_t steps = 1000;
  double learning_rate = 1e-3;
  double final_learning_rate = 0.02;  // as a fraction of learning_rate, the peak
  int64_t warmup_steps = 100;
  AdamWConfig adamw;
  double max_gradient_norm = 1.0;
  bool adaptive_clip = false;
  int64_t accumulate = 1;
  EmaConfig ema{.decay = 0.999, .every = 1, .warm_up = true};  // its averages are what is saved
  int64_t log_interval = 20;                                   // steps
  int64_t checkpoint_interval = 500;                           // steps
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
    field("learning_rate", learning_rate, "peak learning rate");
    field("final_learning_rate", final_learning_rate,
          "last learning rate as a fraction of the peak");
    field("warmup_steps", warmup_steps, "steps of linear warm-up");
    adamw.visit(field);
    field("max_gradient_norm", max_gradient_norm,
          "gradients are scaled down to this norm; the first one of adaptive_clip");
    field("adaptive_clip", adaptive_clip,
          "let the largest norm follow the norms of the gradients, as OSP-Next does");
    field("accumulate", accumulate, "passes whose gradients a step averages");
    ema.visit(field, "ema_");
    field("log_interval", log_interval, "steps between two lines of log.csv");
    field("checkpoint_interval", checkpoint_interval, "steps between two checkpoints");
    field("keep_checkpoints", keep_checkpoints, "number of checkpoints that stay");
    field("max_seconds", max_seconds, "stop with a checkpoint after so many seconds (0: never)");
    field("deterministic", deterministic,
          "let GPUs add in a fixed order, so that a training that goes on from a checkpoint ends "
          "with the same bits; slower");
  }
};

// Named scalars of one step, for the log. The first is the loss that is minimised.
using Losses = std::vector<std::pair<std::string, at::Tensor>>;

// Makes the output folder, and keeps other trainings out of it while the result lives. Only the
// process that leads takes the lock; others get none. Throws InputError when another program trains
// there, RunError when the folder cannot be created.
std::unique_ptr<OutputLock> lock_output(const TrainingConfig& config, bool leads);

// Trains parameters. Goes on from the newest checkpoint in `output`/checkpoints, if there is one.
class TrainingRun {
 public:
  // All processes of the parameters make one, at the same time. Throws InputError for a checkpoint
  // of other parameters or of more steps, RunError when the output folder cannot be created.
  // `parameters`, `progress` and `cancel` must outlive the object.
  TrainingRun(const TrainingConfig& config, TrainedParameters& parameters, Progress& progress,
              const CancellationToken& cancel);

  // Runs steps until all are done (returns true) or max_seconds have passed (returns false). Calls
  // add_gradients(pass) for each pass of a step, config.accumulate of them; `pass` counts over all
  // steps. It adds the gradients of a pass to those of the parameters and returns the scalars to
  // log. It must depend only on the parameters and on `pass`; then a resumed run equals an
  // uninterrupted one. Writes a checkpoint before it returns and before it throws Cancelled. Throws
  // RunError when a loss is not finite.
  bool run(const std::function<Losses(int64_t pass)>& add_gradients);

  Ema& ema() { return ema_; }
  int64_t step() const { return step_; }

 private:
  enum class End { kNot, kOutOfTime, kCancelled };
  End end_of_time(bool out_of_time) const;
  Losses accumulate(const std::function<Losses(int64_t)>& add_gradients);
  at::Tensor clip();
  TrainingTensors tensors() const;
  void save_checkpoint() const;
  void load_checkpoint();

  TrainingConfig config_;
  TrainedParameters& parameters_;
  AdamW optimizer_;
  Ema ema_;
  AdaptiveClip adaptive_clip_;
  TrainingCheckpoints checkpoints_;
  Progress& progress_;
  const CancellationToken& cancel_;
  std::optional<TrainingLog> log_;  // opened when the checkpoint has given the step
  int64_t step_ = 0;
};

}  // namespace ospnext
