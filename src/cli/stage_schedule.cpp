// ospnext stage schedule: writes the noise levels of a run, and runs the sampler on given
// velocities.
#include "cli/sampling_flags.h"
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "io/weights.h"
#include "schedulers/sampler.h"

namespace ospnext {
namespace {

struct ScheduleStage {
  std::string scheduler = sampler_names().front();
  int64_t steps = 50;
  double shift = 7.0;
  std::vector<double> sigmas;
  std::string input;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("scheduler", scheduler, sampler_help().c_str());
    field("steps", steps, "steps N from noise to video");
    field("shift", shift, "time shift; larger spends more steps at high noise");
    field("sigmas", sigmas, kSigmasHelp);
    field("input", input, "optional: safetensors with latent [...] and velocity [N, ...]");
    common.visit(field);
  }
};

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
  const auto sampler = make_sampler(config.scheduler, config.steps, config.shift, config.sigmas);
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
