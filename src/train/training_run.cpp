#include "train/training_run.h"

#include <chrono>

#include "core/number_check.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpoints = "checkpoints";

std::filesystem::path prepared_folder(const std::string& output) {
  std::error_code error;
  std::filesystem::create_directories(output, error);
  if (error) {
    throw RunError("`output` " + output + ": cannot be made: " + error.message());
  }
  return output;
}

}  // namespace

void TrainingConfig::check() const {
  constexpr int64_t kMost = 1'000'000'000;
  if (output.empty()) {
    throw InputError("`output`: found nothing, expected a folder");
  }
  check_range("`steps`", steps, int64_t{1}, kMost);
  check_range("`learning_rate`", learning_rate, 1e-12, 10.0);
  check_range("`final_learning_rate`", final_learning_rate, 0.0, 1.0);
  check_range("`warmup_steps`", warmup_steps, int64_t{0}, steps);
  adamw.check();
  check_range("`max_gradient_norm`", max_gradient_norm, 1e-6, 1e6);
  ema.check("ema_");
  check_range("`log_interval`", log_interval, int64_t{1}, kMost);
  check_range("`checkpoint_interval`", checkpoint_interval, int64_t{1}, kMost);
  check_range("`keep_checkpoints`", keep_checkpoints, int64_t{1}, kMost);
  check_range("`accumulate`", accumulate, int64_t{1}, kMost);
  check_range("`max_seconds`", max_seconds, 0.0, 1e9);
}

std::unique_ptr<OutputLock> lock_output(const TrainingConfig& config, bool leads) {
  return leads ? std::make_unique<OutputLock>(prepared_folder(config.output) / kCheckpoints)
               : nullptr;
}

TrainingRun::TrainingRun(const TrainingConfig& config, TrainedParameters& parameters,
                         Progress& progress, const CancellationToken& cancel)
    : config_(config),
      parameters_(parameters),
      optimizer_(parameters.tensors(), config.adamw),
      ema_(parameters.named(), config.ema),
      adaptive_clip_(config.max_gradient_norm),
      checkpoints_(prepared_folder(config.output) / kCheckpoints, parameters,
                   config.keep_checkpoints),
      progress_(progress),
      cancel_(cancel) {
  TORCH_CHECK(!config.deterministic || at::globalContext().deterministicAlgorithms(),
              "a deterministic training in a program that has not called "
              "compute_deterministically()");
  load_checkpoint();
  log_.emplace(fs::path(config.output) / "log.csv", step_, parameters.ranks().all());
}

bool TrainingRun::run(const std::function<Losses(int64_t)>& add_gradients) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point began = Clock::now();
  const auto seconds_since = [](Clock::time_point then) {
    return std::chrono::duration<double>(Clock::now() - then).count();
  };
  Clock::time_point logged = began;
  int64_t logged_step = step_;
  std::string note;
  progress_.begin("training", config_.steps - step_);
  End end = end_of_time(false);
  while (step_ < config_.steps && end == End::kNot) {
    parameters_.ranks().work.world->journal().at_step(step_);
    Losses losses = accumulate(add_gradients);
    losses.emplace_back("gradient_norm", clip());
    const double learning_rate = warmup_cosine(step_, config_.warmup_steps, config_.steps,
                                               config_.learning_rate, config_.final_learning_rate);
    optimizer_.step(learning_rate);
    optimizer_.zero_grad();
    ema_.update();
    log_->add(losses);
    ++step_;
    if (step_ % config_.log_interval == 0 || step_ == config_.steps) {
      const double per_step = seconds_since(logged) / static_cast<double>(step_ - logged_step);
      note = log_->write(step_, learning_rate, per_step);
      logged = Clock::now();
      logged_step = step_;
    }
    progress_.step(note);
    end = end_of_time(config_.max_seconds > 0 && seconds_since(began) > config_.max_seconds);
    if (step_ % config_.checkpoint_interval == 0 || step_ == config_.steps || end != End::kNot) {
      save_checkpoint();
    }
  }
  if (end == End::kCancelled && step_ < config_.steps) {
    throw Cancelled();
  }
  progress_.end();
  return step_ == config_.steps;
}

// Whether the run ends before its last step, which all processes decide together.
TrainingRun::End TrainingRun::end_of_time(bool out_of_time) const {
  End end = cancel_.cancelled() ? End::kCancelled : out_of_time ? End::kOutOfTime : End::kNot;
  const ProcessGroup& all = parameters_.ranks().all();
  if (all.alone()) {
    return end;
  }
  const auto device = parameters_.parts().front().tensor.device();
  const at::Tensor own = at::full({1}, static_cast<int64_t>(end), at::kLong).to(device);
  return static_cast<End>(all.all_max(own, "end").item<int64_t>());
}

// The gradients of a step, and the mean losses of its passes.
Losses TrainingRun::accumulate(const std::function<Losses(int64_t)>& add_gradients) {
  Losses sums;
  for (int64_t i = 0; i < config_.accumulate; ++i) {
    Losses losses = add_gradients(step_ * config_.accumulate + i);
    for (size_t k = 0; k < losses.size(); ++k) {
      const at::Tensor share = losses[k].second.detach() / config_.accumulate;
      if (i == 0) {
        sums.emplace_back(losses[k].first, share);
      } else {
        sums[k].second = sums[k].second + share;
      }
    }
  }
  parameters_.average_gradients(config_.accumulate);
  return sums;
}

// Scales the gradients down if their joint norm is too large. Returns the norm before.
at::Tensor TrainingRun::clip() {
  if (!config_.adaptive_clip) {
    return parameters_.clip_gradients(config_.max_gradient_norm);
  }
  const at::Tensor norm = parameters_.gradient_norm();
  const double factor = adaptive_clip_.coefficient(norm.item<double>());
  parameters_.scale_gradients(at::scalar_tensor(factor, at::kFloat));
  return norm;
}

TrainingTensors TrainingRun::tensors() const {
  TrainingTensors tensors{{"first", optimizer_.first_moments()},
                          {"second", optimizer_.second_moments()},
                          {"ema", ema_.shadow()}};
  for (const TrainedTensor& one : parameters_.tensors()) {
    tensors["parameter"][one.name] = one.tensor;
  }
  return tensors;
}

void TrainingRun::save_checkpoint() const {
  TrainingState state{.step = step_, .numbers = {}};
  AdaptiveClipState clip = adaptive_clip_.state();
  clip.visit([&](const char* name, double value, const char*) { state.numbers[name] = value; });
  checkpoints_.save(state, tensors());
}

void TrainingRun::load_checkpoint() {
  const auto state = checkpoints_.load_newest(tensors());
  if (!state) {
    return;
  }
  step_ = state->step;
  if (step_ > config_.steps) {
    throw InputError("`steps`: found " + std::to_string(config_.steps) +
                     ", but the checkpoint in " + config_.output + " has " + std::to_string(step_) +
                     " finished steps; expected at least as many");
  }
  optimizer_.set_steps(step_);
  ema_.load(ema_.shadow(), step_);
  AdaptiveClipState clip;
  clip.visit([&](const char* name, double& value, const char*) {
    value = state->numbers.contains(name) ? state->numbers.at(name) : 0;
  });
  adaptive_clip_.restore(clip);
}

}  // namespace ospnext
