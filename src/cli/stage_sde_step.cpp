// ospnext stage sde-step: one step of sampling with noise, and the density of its result.
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/choice.h"
#include "core/error.h"
#include "core/number_check.h"
#include "core/torch/shape_check.h"
#include "io/weights.h"
#include "schedulers/sde_step.h"

namespace ospnext {
namespace {

struct SdeStepStage {
  std::string kind;
  double eta = 0;
  int64_t noise_frames = 1, noise_side = 1;
  bool last = false;
  std::string input;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("kind", kind, "osp, mix or dance");
    field("eta", eta, "strength of the noise; the default is 0.7 with mix and 0.3 with dance");
    field("noise_frames", noise_frames,
          "frames of a latent [B, C, F, h, w] that share their noise");
    field("noise_side", noise_side, "rows and columns that share their noise");
    field("last", last, "the last step of a run, which adds no noise");
    field("input", input,
          "safetensors with latent [B, ...], velocity and noise alike, sigma [1], next_sigma [1]; "
          "with mix also first_sigma [1]; optionally next");
    common.visit(field);
  }
};

// The rule that the flags ask for, without first_sigma. Throws InputError.
SdeRule rule_of(const SdeStepStage& config, const GivenFlags& given) {
  SdeRule rule{.kind = one_of("`kind`", config.kind, kSdeKinds)};
  rule.eta = default_eta(rule.kind);
  if (given.has("eta")) {
    if (rule.kind == SdeKind::kOsp) {
      throw InputError("`eta`: found with the kind osp, expected with mix or dance only");
    }
    check_range("`eta`", config.eta, 1e-6, 100.0);
    rule.eta = config.eta;
  }
  constexpr int64_t kMost = 1'000'000;
  check_range("`noise_frames`", config.noise_frames, int64_t{1}, kMost);
  check_range("`noise_side`", config.noise_side, int64_t{1}, kMost);
  rule.cells = {.frames = config.noise_frames, .side = config.noise_side};
  return rule;
}

// Throws InputError unless whole cells of noise fill the latent.
void check_cells(const SdeStepStage& config, const NoiseCells& cells, const at::Tensor& latent) {
  if (cells.numbers() > 1 &&
      (latent.dim() != 5 || latent.size(2) % cells.frames != 0 ||
       latent.size(3) % cells.side != 0 || latent.size(4) % cells.side != 0)) {
    throw InputError(config.input + ": latent: found " + shape_text(latent.sizes()) +
                     ", expected [B, C, F, h, w] with F a multiple of `noise_frames`, " +
                     std::to_string(cells.frames) + ", and h and w multiples of `noise_side`, " +
                     std::to_string(cells.side));
  }
}

// All that the stage writes. Throws InputError.
std::map<std::string, at::Tensor> run_step(const SdeStepStage& config, SdeRule rule,
                                           at::Device device) {
  StageInput input(config.input);
  const at::Tensor latent = input.floats("latent", "B,...");
  check_cells(config, rule.cells, latent);
  const at::Tensor velocity = input.floats_like("velocity", latent, "latent");
  const double sigma = input.number("sigma", 1e-6, 1.0);
  const double next_sigma = input.number("next_sigma", 0.0, 1.0);
  if (next_sigma >= sigma) {
    throw InputError(config.input + ": next_sigma: found " + nlohmann::json(next_sigma).dump() +
                     ", expected less than sigma, " + nlohmann::json(sigma).dump());
  }
  if (rule.kind == SdeKind::kMix && (sigma == 1 || input.has("first_sigma"))) {
    constexpr double kBelowOne = 1 - 0x1p-24;  // the largest float32 below 1
    rule.first_sigma = input.number("first_sigma", 0.0, kBelowOne);
  }
  const SdeStep step = sde_step(rule, latent.to(device), velocity.to(device), sigma, next_sigma);
  const bool draws = !input.has("next") && !config.last;
  at::Tensor next = step.mean.to(at::kFloat);
  if (draws || input.has("noise")) {
    const at::Tensor noise = input.floats_like("noise", latent, "latent").to(device);
    next = draws ? drawn_latent(step, noise) : next;
  }
  if (input.has("next")) {
    next = input.floats_like("next", latent, "latent").to(device, at::kFloat);
  }
  input.warn_of_rest();
  return {{"mean", step.mean.to(at::kFloat)},
          {"std", at::full({1}, step.std, at::kFloat)},
          {"next", next},
          {"log_prob", log_density(step, next).to(at::kFloat)}};
}

}  // namespace

void run_stage_sde_step(const Arguments& arguments, const CancellationToken&) {
  const at::NoGradGuard no_grad;
  SdeStepStage config;
  const auto given =
      read_flags("stage sde-step",
                 "Take one step with noise: write mean [B, ...] and std [1] of the next latent, "
                 "next, as given or drawn with the noise, and its log_prob [B], averaged over all "
                 "but the batch.",
                 flags_of(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  const SdeRule rule = rule_of(config, *given);
  config.common.check();
  save_safetensors(config.common.output, run_step(config, rule, config.common.compute().device));
}

}  // namespace ospnext
