// ospnext stage schedule: writes the noise levels of a run, and runs the sampler on given
// velocities.
#include <cmath>

#include "cli/sampling_flags.h"
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/number_check.h"
#include "io/weights.h"
#include "schedulers/sampler.h"

namespace ospnext {
namespace {

struct ScheduleStage {
  std::string scheduler = sampler_names().front();
  int64_t steps = 50;
  double shift = 7.0;
  std::vector<double> sigmas;
  std::vector<double> flash;
  std::string input;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("scheduler", scheduler, sampler_help().c_str());
    field("steps", steps, "steps N from noise to video");
    field("shift", shift, "time shift; larger spends more steps at high noise");
    field("sigmas", sigmas, kSigmasHelp);
    field(
        "flash", flash,
        "LAST,RATIO: levels of MixGRPO-Flash, the usual ones up to LAST, then RATIO times as many");
    field("input", input, "optional: safetensors with latent [...] and velocity [N, ...]");
    common.visit(field);
  }
};

// The levels that `flash` asks for, without the final 0. Throws InputError.
std::vector<double> flash_sigmas(const ScheduleStage& config, const GivenFlags& given) {
  for (const char* other : {"sigmas", "input"}) {
    if (given.has(other)) {
      throw InputError(std::string("`flash`: found with `") + other + "`, expected without it");
    }
  }
  if (config.scheduler != "euler") {
    throw InputError("`flash`: found with the scheduler " + config.scheduler + ", expected euler");
  }
  if (config.flash.size() != 2 || config.flash[0] != std::floor(config.flash[0])) {
    throw InputError("`flash`: found " + nlohmann::json(config.flash).dump() +
                     ", expected LAST,RATIO like 3,0.4");
  }
  check_range("`flash`: LAST", config.flash[0], 0.0, static_cast<double>(config.steps - 1));
  check_range("`flash`: RATIO", config.flash[1], 1e-6, 1.0);
  const at::Tensor levels = flash_levels(config.steps, config.shift,
                                         static_cast<int64_t>(config.flash[0]), config.flash[1]);
  const float* values = levels.const_data_ptr<float>();
  return {values, values + levels.size(0)};
}

// latent [...], velocity [N, ...] -> [N + 1, ...] float32. The first row is the initial latent.
at::Tensor drive(Sampler& sampler, const at::Tensor& latent, const at::Tensor& velocity) {
  std::vector<at::Tensor> latents = {latent.to(torch::kFloat32)};
  for (int64_t i = 0; i < sampler.steps(); ++i) {
    latents.push_back(sampler.step(i, latents.back(), velocity[i]));
  }
  return torch::stack(latents);
}

}  // namespace

void run_stage_schedule(const Arguments& arguments, const CancellationToken&) {
  ScheduleStage config;
  const auto given =
      read_flags("stage schedule",
                 "Write the sigmas [N+1] and timesteps [N] of a schedule; with --input also the "
                 "latents [N+1, ...] that the sampler makes of the given velocities.",
                 flags_of(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  settle_sigmas(*given, config.sigmas, config.steps);
  config.common.check();
  const at::Device device = config.common.compute().device;
  auto sampler = make_sampler(config.scheduler, config.steps, config.shift, config.sigmas);
  if (given->has("flash")) {
    const std::vector<double> levels = flash_sigmas(config, *given);
    sampler = make_sampler(config.scheduler, num_steps(levels), config.shift, levels);
  }
  std::map<std::string, at::Tensor> result = {{"sigmas", sampler->schedule().sigmas},
                                              {"timesteps", sampler->schedule().timesteps}};
  if (!config.input.empty()) {
    StageInput input(config.input);
    const at::Tensor latent = input.floats("latent", "...");
    const at::Tensor velocity = input.floats("velocity", "...");
    input.warn_of_rest();
    std::vector<int64_t> expected = latent.sizes().vec();
    expected.insert(expected.begin(), config.steps);
    if (velocity.sizes() != at::IntArrayRef(expected)) {
      throw InputError(config.input + ": velocity: found shape " +
                       shape_text(velocity.sizes().vec()) + ", expected " + shape_text(expected) +
                       ", the steps before latent's shape");
    }
    result["latents"] = drive(*sampler, latent.to(device), velocity.to(device));
  }
  save_safetensors(config.common.output, result);
}

}  // namespace ospnext
