#include "train/training_run.h"

#include <chrono>

#include "core/number_check.h"
#include "io/weights.h"

namespace ospnext {
namespace {

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
  check_range("`max_seconds`", max_seconds, 0.0, 1e9);
}

TrainingRun::TrainingRun(const TrainingConfig& config, const NamedTensors& parameters,
                         Progress& progress, const CancellationToken& cancel)
    : config_(config),
      parameters_(parameters),
      optimizer_(parameters, config.adamw),
      ema_(parameters, config.ema),
      progress_(progress),
      cancel_(cancel) {
  load_checkpoint();
  log_.emplace(prepared_folder(config.output) / "log.csv", step_);
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
  while (step_ < config_.steps) {
    if (cancel_.cancelled()) {
      save_checkpoint();
      throw Cancelled();
    }
    Losses losses = add_gradients(step_);
    losses.emplace_back("gradient_norm", optimizer_.clip_gradients(config_.max_gradient_norm));
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
    const bool out_of_time = config_.max_seconds > 0 && seconds_since(began) > config_.max_seconds;
    if (step_ % config_.checkpoint_interval == 0 || step_ == config_.steps || out_of_time) {
      save_checkpoint();
    }
    if (out_of_time && step_ < config_.steps) {
      progress_.end();
      return false;
    }
  }
  progress_.end();
  return true;
}

std::filesystem::path TrainingRun::checkpoint_path() const {
  return std::filesystem::path(config_.output) / "checkpoint.safetensors";
}

void TrainingRun::save_checkpoint() const {
  std::map<std::string, at::Tensor> tensors = optimizer_.state();
  for (const auto& [name, parameter] : parameters_) {
    tensors["parameter." + name] = parameter.detach();
  }
  for (const auto& [name, shadow] : ema_.shadow()) {
    tensors["ema." + name] = shadow;
  }
  save_safetensors(checkpoint_path(), tensors, {{"step", std::to_string(step_)}});
}

void TrainingRun::load_checkpoint() {
  if (!std::filesystem::exists(checkpoint_path())) {
    return;
  }
  const std::string where = checkpoint_path().string();
  const std::map<std::string, at::Tensor> tensors = read_tensors(checkpoint_path());
  std::map<std::string, at::Tensor> shadow;
  const at::NoGradGuard no_grad;
  for (auto& [name, parameter] : parameters_) {
    const auto found = tensors.find("parameter." + name);
    const auto averaged = tensors.find("ema." + name);
    if (found == tensors.end() || averaged == tensors.end() ||
        found->second.sizes() != parameter.sizes()) {
      throw InputError(where + ": " + name +
                       " is missing or has another shape; the checkpoint is of another model");
    }
    parameter.copy_(found->second);
    shadow[name] = averaged->second;
  }
  const auto steps = tensors.find("step");
  if (steps == tensors.end()) {
    throw InputError(where + ": \"step\" is missing; this is no training checkpoint");
  }
  step_ = steps->second.item<int64_t>();
  optimizer_.load_state(tensors);
  ema_.load(shadow, step_);
}

}  // namespace ospnext
