#include "train/training_run.h"

#include <chrono>

#include "core/number_check.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr const char* kCheckpoints = "checkpoints";

fs::path prepared_folder(const std::string& output) {
  std::error_code error;
  fs::create_directories(output, error);
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
  LearningRateConfig::check(steps);
  adamw.check();
  check_range("`max_gradient_norm`", max_gradient_norm, 1e-6, 1e6);
  ema.check("ema_");
  check_range("`log_interval`", log_interval, int64_t{1}, kMost);
  check_range("`validation_interval`", validation_interval, int64_t{0}, kMost);
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
                         Objective& objective, Progress& progress, const CancellationToken& cancel)
    : config_(config),
      parameters_(parameters),
      objective_(objective),
      optimizer_(parameters.tensors(), config.adamw,
                 {.offload = config.offload_optimizer, .device = parameters.device()}),
      ema_(parameters.tensors(), config.ema,
           {.offload = config.offload_optimizer, .device = parameters.device()}),
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

bool TrainingRun::run() {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point began = Clock::now();
  const auto out_of_time = [&] {
    const std::chrono::duration<double> passed = Clock::now() - began;
    return config_.max_seconds > 0 && passed.count() > config_.max_seconds;
  };
  std::string note;
  progress_.begin("training", config_.steps - step_);
  costs_.emplace(parameters_.ranks(), parameters_.device());
  End end = end_of_time(false);
  bool due = false;  // a checkpoint
  while (!is_done() && !(end != End::kNot && objective_.can_pause())) {
    try {
      step_once();
    } catch (const Cancelled&) {
      if (objective_.can_pause()) {  // nothing of the step was computed
        save_checkpoint();
      }
      throw;
    } catch (const NoPass&) {
      save_checkpoint();
      throw;
    }
    Scalars validation;
    if (is_due(config_.validation_interval)) {
      evaluate([&] { validation = objective_.validate(); });
    }
    if (is_due(config_.log_interval) || !validation.empty()) {
      note = write_log(validation);
    }
    progress_.step(note);
    if (is_due(objective_.sample_interval())) {
      evaluate([&] { objective_.sample(step_); });
    }
    end = end_of_time(out_of_time());
    due = due || is_due(config_.checkpoint_interval) || end != End::kNot;
    if (due && (objective_.can_pause() || is_done())) {
      costs_->aside([&] { save_checkpoint(); });
      due = false;
    }
  }
  if (end == End::kCancelled && !is_done()) {
    throw Cancelled();
  }
  progress_.end();
  return is_done();
}

bool TrainingRun::is_done() const {
  return step_ == config_.steps || objective_.is_finished();
}

// Whether something is due that comes every `interval` steps (0: never) and after the last one.
bool TrainingRun::is_due(int64_t interval) const {
  return interval > 0 && (step_ % interval == 0 || is_done());
}

void TrainingRun::step_once() {
  parameters_.ranks().work.world->journal().at_step(step_);
  Losses losses = accumulate();
  clip(losses);
  optimizer_.step(config_.learning_rate_at(step_, config_.steps));
  optimizer_.zero_grad();
  ema_.update();
  log_->add(losses);
  ++step_;
  costs_->end_step();
}

// Whether the run ends before its last step, which all processes decide together.
TrainingRun::End TrainingRun::end_of_time(bool out_of_time) const {
  End end = cancel_.cancelled() ? End::kCancelled : out_of_time ? End::kOutOfTime : End::kNot;
  const ProcessGroup& all = parameters_.ranks().all();
  if (all.alone()) {
    return end;
  }
  const at::Tensor own =
      at::full({1}, static_cast<int64_t>(end), at::kLong).to(parameters_.device());
  return static_cast<End>(all.all_max(own, "end").item<int64_t>());
}

// The gradients of a step, and the mean losses of its passes.
Losses TrainingRun::accumulate() {
  Losses sums;
  for (int64_t i = 0; i < config_.accumulate; ++i) {
    const Pass pass = objective_.add_gradients();
    costs_->add(pass);
    for (size_t k = 0; k < pass.losses.size(); ++k) {
      const auto& [name, loss] = pass.losses[k];
      const at::Tensor share = loss.detach() / config_.accumulate;
      if (i == 0) {
        sums.emplace_back(name, share);
      } else {
        sums[k].second = sums[k].second + share;
      }
    }
  }
  parameters_.average_gradients(config_.accumulate);
  return sums;
}

// Scales the gradients down if their joint norm is too large, and logs the norm before and after
// and the largest norm that was allowed.
void TrainingRun::clip(Losses& log) {
  at::Tensor norm;
  double limit = config_.max_gradient_norm;
  if (config_.adaptive_clip) {
    norm = parameters_.gradient_norm();
    const double factor = adaptive_clip_.coefficient(norm.item<double>());
    parameters_.scale_gradients(at::scalar_tensor(factor, at::kFloat));
    limit = adaptive_clip_.state().largest_norm;
  } else {
    norm = parameters_.clip_gradients(limit);
  }
  log.emplace_back("gradient_norm", norm);
  log.emplace_back("clipped_norm", norm.clamp_max(limit));
  log.emplace_back("clip_limit", at::full({}, limit, norm.options()));
}

// Runs work that no step counts, while the parameters are the averages, if those are to be
// evaluated. When it is cancelled, the loop notices that too, and writes a checkpoint.
void TrainingRun::evaluate(const std::function<void()>& work) {
  struct Swapped {
    Ema* ema;
    explicit Swapped(Ema* averages) : ema(averages) { swap(); }
    ~Swapped() { swap(); }
    void swap() const {
      if (ema != nullptr) {
        ema->swap();
      }
    }
  };
  costs_->aside([&] {
    const Swapped swapped(config_.evaluate_averages ? &ema_ : nullptr);
    try {
      work();
    } catch (const Cancelled&) {
    }
  });
}

// Writes a row of the log, and returns it for the terminal.
std::string TrainingRun::write_log(const Scalars& validation) {
  Scalars numbers{{"learning_rate", config_.learning_rate_at(step_ - 1, config_.steps)}};
  const Scalars costs = costs_->take();
  numbers.insert(numbers.end(), costs.begin(), costs.end());
  numbers.insert(numbers.end(), validation.begin(), validation.end());
  std::string text;
  costs_->aside([&] { text = row_text(log_->write(step_, numbers)); });
  return text;
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

void TrainingRun::save_checkpoint() {
  if (saved_step_ == step_) {  // to write it again would put it at risk
    return;
  }
  TrainingState state{.step = step_, .numbers = {}, .objective = objective_.state()};
  AdaptiveClipState clip = adaptive_clip_.state();
  clip.visit([&](const char* name, double value, const char*) { state.numbers[name] = value; });
  if (const auto quality = objective_.quality()) {
    state.numbers[kCheckpointQuality] = *quality;
  }
  checkpoints_.save(state, tensors());
  saved_step_ = step_;
}

void TrainingRun::load_checkpoint() {
  const auto state = checkpoints_.load_newest(tensors());
  if (!state) {
    return;
  }
  objective_.restore(state->objective, (fs::path(config_.output) / "checkpoints").string() + ": " +
                                           name_of_step(state->step) + ": objective");
  step_ = saved_step_ = state->step;
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
