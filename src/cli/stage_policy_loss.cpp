// ospnext stage policy-loss: the loss of a policy's update and its gradients.
#include <cmath>
#include <optional>

#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/number_check.h"
#include "io/weights.h"
#include "rl/policy_loss.h"

namespace ospnext {
namespace {

struct PolicyLossStage {
  PolicyLossConfig loss;
  int64_t sde_steps = 1;
  int64_t accumulate = 1;
  std::string input;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    loss.visit(field);
    field("sde_steps", sde_steps, "steps with noise, by which the loss is divided");
    field("accumulate", accumulate, "passes of an optimizer step, by which the loss is divided");
    field("input", input,
          "safetensors with log_prob, old_log_prob, advantages [n]; mean and reference_mean "
          "[n, ...] and std [1], which may be left out without `kl_beta`");
    common.visit(field);
  }

  // Throws InputError.
  void check() const {
    loss.check();
    check_range("`sde_steps`", sde_steps, int64_t{1}, int64_t{10000});
    check_range("`accumulate`", accumulate, int64_t{1}, int64_t{1'000'000});
    common.check();
  }
};

// mean, reference_mean [n, ...] and std of the file. Throws InputError.
ReferencedMeans read_means(StageInput& input, const at::TensorOptions& options) {
  constexpr double kLeastStd = 1e-10, kMostStd = 1e6;
  ReferencedMeans means;
  means.policy = input.floats("mean", "N,...").to(options);
  means.reference = input.floats_like("reference_mean", means.policy, "mean").to(options);
  means.std = input.number("std", kLeastStd, kMostStd);
  return means;
}

std::map<std::string, at::Tensor> run_loss(const PolicyLossStage& config, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kDouble);
  StageInput input(config.input);
  const at::Tensor log_prob = input.floats("log_prob", "N").to(options).requires_grad_();
  const at::Tensor old_log_prob = input.floats("old_log_prob", "N").to(options);
  const at::Tensor advantages = input.floats("advantages", "N").to(options);
  ReferencedMeans means;
  if (config.loss.kl_beta > 0 || input.has("mean")) {
    means = read_means(input, options);
    means.policy.requires_grad_();
  }
  input.warn_of_rest();
  constexpr double kMostChange = 80;  // e^80 still fits float32
  const double change = (log_prob - old_log_prob).abs().max().item<double>();
  if (change > kMostChange) {
    throw InputError(config.input + ": log_prob and old_log_prob: found values " +
                     std::to_string(change) +
                     " apart, expected at most 80, so that their ratio is "
                     "a number");
  }
  const PolicyLoss result = policy_loss(config.loss, log_prob, old_log_prob, advantages, means);
  const at::Tensor loss = result.loss / static_cast<double>(config.accumulate * config.sde_steps);
  loss.backward();
  const auto scalar = [](const at::Tensor& value) {
    return value.detach().to(at::kFloat).reshape({1});  // [1]
  };
  std::map<std::string, at::Tensor> all = {{"loss", scalar(loss)},
                                           {"policy_loss", scalar(result.policy_loss)},
                                           {"kl", scalar(result.kl)},
                                           {"approx_kl", scalar(result.approx_kl)},
                                           {"clip_fraction", scalar(result.clip_fraction)},
                                           {"ratio", result.ratio.detach().to(at::kFloat)},
                                           {"gradient.log_prob", log_prob.grad().to(at::kFloat)}};
  if (means.policy.defined()) {
    all["gradient.mean"] = means.policy.grad().to(at::kFloat);
  }
  return all;
}

}  // namespace

void run_stage_policy_loss(const Arguments& arguments, const CancellationToken&) {
  PolicyLossStage config;
  if (!parse_flags("stage policy-loss",
                   "Write the loss of an update, (policy_loss + kl_beta * kl) / (accumulate * "
                   "sde_steps), its parts, the ratio [n], and the gradients of the loss.",
                   arguments, config)) {
    return;
  }
  config.check();
  save_safetensors(config.common.output, run_loss(config, config.common.compute().device));
}

}  // namespace ospnext
