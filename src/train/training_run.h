// The loop every training shares: optimizer, EMA, schedule, log, checkpoint and resume.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "train/ema.h"
#include "train/optimizer.h"
#include "train/training_log.h"

namespace ospnext {

// What every training is configured by. Flags, JSON and help come from visit().
struct TrainingConfig {
  std::string output;  // folder of checkpoint, log and finished model
  std::string device = "cpu";
  std::string precision = "float32";  // arithmetic; master weights and optimizer stay float32
  int64_t seed = 0;
  int64_t steps = 1000;
  double learning_rate = 1e-3;
  double final_learning_rate = 0.02;  // as a fraction of the peak
  int64_t warmup_steps = 100;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.01;
  double max_gradient_norm = 1.0;
  double ema_decay = 0.999;
  int64_t log_interval = 20;          // steps
  int64_t checkpoint_interval = 500;  // steps
  double max_seconds = 0;             // stop with a checkpoint after so long; 0: never

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
    field("beta1", beta1, "AdamW decay of the first moment");
    field("beta2", beta2, "AdamW decay of the second moment");
    field("weight_decay", weight_decay, "decoupled weight decay of matrices");
    field("max_gradient_norm", max_gradient_norm, "gradients are scaled down to this norm");
    field("ema_decay", ema_decay, "decay of the averaged weights, which are what is saved");
    field("log_interval", log_interval, "steps between two lines of log.csv");
    field("checkpoint_interval", checkpoint_interval, "steps between two checkpoints");
    field("max_seconds", max_seconds, "stop with a checkpoint after so many seconds (0: never)");
  }
};

// Named scalars of one step, for the log; the first is what is minimised.
using Losses = std::vector<std::pair<std::string, at::Tensor>>;

// Trains `parameters`; goes on from `output`/checkpoint.safetensors if it is there.
class TrainingRun {
 public:
  // Throws InputError for a checkpoint of other parameters, RunError for an output folder that cannot be
  // made. `progress` and `cancel` outlive the object.
  TrainingRun(const TrainingConfig& config, const NamedTensors& parameters, Progress& progress,
              const CancellationToken& cancel);

  // Steps until all are done (true) or max_seconds have passed (false). add_gradients(step) adds the
  // step's gradients to the parameters' and returns what to log; it must depend on nothing but the
  // parameters and `step`, so that a resumed run repeats an uninterrupted one. Leaves a checkpoint whenever
  // it returns and when cancelled; throws RunError when a loss is not finite.
  bool run(const std::function<Losses(int64_t step)>& add_gradients);

  Ema& ema() { return ema_; }
  int64_t step() const { return step_; }

 private:
  void save_checkpoint() const;
  void load_checkpoint();
  std::filesystem::path checkpoint_path() const;

  TrainingConfig config_;
  NamedTensors parameters_;
  AdamW optimizer_;
  Ema ema_;
  Progress& progress_;
  const CancellationToken& cancel_;
  std::optional<TrainingLog> log_;  // opened once the checkpoint says at which step
  int64_t step_ = 0;
};

}  // namespace ospnext
