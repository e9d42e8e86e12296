// ospnext stage optimizer: clips, averages or updates with AdamW what a file holds, as trainings
// do.
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/choice.h"
#include "core/error.h"
#include "core/number_check.h"
#include "core/torch/shape_check.h"
#include "io/weights.h"
#include "train/adaptive_clip.h"
#include "train/ema.h"
#include "train/optimizer.h"

namespace ospnext {
namespace {

enum class Mode { kClip, kEma, kAdamW };
constexpr std::array<std::pair<const char*, Mode>, 3> kModes = {
    {{"clip", Mode::kClip}, {"ema", Mode::kEma}, {"adamw", Mode::kAdamW}}};

// The defaults are those of OSP-Next's training program.
struct OptimizerStage {
  std::string mode;
  std::string input;
  EmaConfig ema;
  double learning_rate = 1e-4;
  AdamWConfig adamw{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-15, .weight_decay = 1e-2};
  StageOutput common;

  template <class Visitor>
  void visit_adamw(Visitor&& field) {
    field("learning_rate", learning_rate, "learning rate of AdamW");
    adamw.visit(field);
  }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("mode", mode, "clip, ema or adamw");
    field("input", input,
          "safetensors with norms [n], with parameters [n, ...], or with parameter [...] and "
          "gradients [n, ...]");
    ema.visit(field);
    visit_adamw(field);
    common.visit(field);
  }

  // Throws InputError, also for a given flag that belongs to another mode.
  void check(const GivenFlags& given);
};

void OptimizerStage::check(const GivenFlags& given) {
  const Mode chosen = one_of("`mode`", mode, kModes);
  const auto refuse = [&](const char* owner) {
    return [&given, owner, this](const std::string& name, const auto&, const char*) {
      if (given.has(name)) {
        throw InputError("`" + name + "`: found with the mode " + mode + ", expected with " +
                         owner + " only");
      }
    };
  };
  if (chosen != Mode::kEma) {
    ema.visit(refuse("ema"));
  }
  if (chosen != Mode::kAdamW) {
    visit_adamw(refuse("adamw"));
  }
  ema.check();
  check_range("`learning_rate`", learning_rate, 0.0, 10.0);
  adamw.check();
  common.check();
  common.compute();
}

// norms [n] float64 -> [n, 4] float64: coefficient, largest norm, mean, variance of each step.
at::Tensor clip_steps(const at::Tensor& norms) {
  AdaptiveClip clip;
  std::vector<double> numbers;
  const auto norm = norms.accessor<double, 1>();
  for (int64_t i = 0; i < norm.size(0); ++i) {
    numbers.push_back(clip.coefficient(norm[i]));
    const AdaptiveClipState& state = clip.state();
    numbers.insert(numbers.end(), {state.largest_norm, state.mean, state.variance});
  }
  return at::tensor(numbers, at::kDouble).view({-1, 4});  // [n, 4]
}

// parameters [n, ...] float32 -> [n, ...]: the averages after each row. They begin as the first.
at::Tensor ema_steps(const EmaConfig& config, const at::Tensor& parameters) {
  const at::Tensor parameter = parameters[0].clone();
  Ema ema(NamedTensors{{"parameter", parameter}}, config);
  const auto average = [&] { return ema.shadow().at("parameter").clone(); };
  std::vector<at::Tensor> averages = {average()};
  for (int64_t i = 1; i < parameters.size(0); ++i) {
    parameter.copy_(parameters[i]);
    ema.update();
    averages.push_back(average());
  }
  return at::stack(averages);
}

// parameter [...] and gradients [n, ...], float32 -> [n, ...]: the parameter after each step.
at::Tensor adamw_steps(const OptimizerStage& config, const at::Tensor& parameter,
                       const at::Tensor& gradients) {
  const std::vector<TrainedTensor> trained = {{"parameter", parameter.clone(), /*decays=*/true}};
  const at::Tensor& updated = trained[0].tensor;
  AdamW optimizer(trained, config.adamw);
  std::vector<at::Tensor> parameters;
  for (const at::Tensor& gradient : gradients.unbind()) {
    updated.grad().copy_(gradient);
    optimizer.step(config.learning_rate);
    parameters.push_back(updated.clone());
  }
  return at::stack(parameters);
}

at::Tensor read_norms(StageInput& input, const std::string& file) {
  const at::Tensor norms = input.floats("norms", "N").to(at::kDouble);
  if (norms.min().item<double>() < 0) {
    throw InputError(file + ": norms: found values below 0, expected norms of gradients");
  }
  return norms;
}

// gradients [n, ...] for a parameter [...], as read.
at::Tensor read_gradients(StageInput& input, const std::string& file, const at::Tensor& parameter) {
  const at::Tensor gradients = input.floats("gradients", "N,...");
  if (gradients.sizes().slice(1) != parameter.sizes()) {
    std::string expected = shape_text(parameter.sizes());
    expected.insert(1, parameter.dim() > 0 ? "N, " : "N");
    throw InputError(file + ": gradients: found shape " + shape_text(gradients.sizes()) +
                     ", expected " + expected + ", the steps before the parameter's shape");
  }
  return gradients;
}

}  // namespace

void run_stage_optimizer(const Arguments& arguments, const CancellationToken&) {
  const at::NoGradGuard no_grad;
  OptimizerStage config;
  const auto given =
      read_flags("stage optimizer",
                 "Run the steps of a training without its model. Mode clip: norms [n] of gradients "
                 "to clip [n, 4] float64, the coefficient, largest norm, mean and variance. Mode "
                 "ema: parameters [n, ...] to their averages, shadow [n, ...]. Mode adamw: "
                 "parameter [...] and gradients [n, ...] to parameter [n, ...].",
                 flags_of(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  config.check(*given);
  StageInput input(config.input);
  const auto options = at::TensorOptions(config.common.compute().device).dtype(at::kFloat);
  std::map<std::string, at::Tensor> result;
  switch (one_of("`mode`", config.mode, kModes)) {
    case Mode::kClip:
      result["clip"] = clip_steps(read_norms(input, config.input));
      break;
    case Mode::kEma:
      result["shadow"] = ema_steps(config.ema, input.floats("parameters", "N,...").to(options));
      break;
    case Mode::kAdamW: {
      const at::Tensor parameter = input.floats("parameter", "...").to(options);
      const at::Tensor gradients = read_gradients(input, config.input, parameter).to(options);
      result["parameter"] = adamw_steps(config, parameter, gradients);
      break;
    }
  }
  input.warn_of_rest();
  save_safetensors(config.common.output, result);
}

}  // namespace ospnext
