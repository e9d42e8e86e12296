#include "schedulers/sampler.h"

#include <array>

#include "core/number_check.h"
#include "schedulers/flow_matching.h"
#include "schedulers/multistep.h"

namespace ospnext {
namespace {

class EulerSampler final : public Sampler {
 public:
  explicit EulerSampler(Schedule schedule) : Sampler(std::move(schedule)) {}

 private:
  at::Tensor advance(int64_t step, const at::Tensor& latent, const at::Tensor& velocity) override {
    return euler_step(latent, velocity, sigma(step), sigma(step + 1));
  }
};

// DPM-Solver++ of second order. The first step is of first order because there is no earlier
// estimate, the last step because lambda is infinite at its end.
class DpmSampler : public Sampler {
 public:
  explicit DpmSampler(Schedule schedule) : Sampler(std::move(schedule)) {}

 protected:
  at::Tensor advance(int64_t step, const at::Tensor& latent, const at::Tensor& velocity) override {
    earlier_ = clean_;
    clean_ = clean_estimate(latent, velocity, sigma(step));
    return leave(step, latent);
  }

  // Goes from `latent` at the level of `step` to the next level.
  at::Tensor leave(int64_t step, const at::Tensor& latent) const {
    const bool second_order = earlier_.defined() && step + 1 < steps();
    const at::Tensor ahead = second_order ? extrapolated_clean(clean_, earlier_, sigma(step - 1),
                                                               sigma(step), sigma(step + 1))
                                          : clean_;
    return toward_clean(latent, ahead, sigma(step), sigma(step + 1));
  }

  at::Tensor clean_;    // the estimate of the clean latent at the latest step
  at::Tensor earlier_;  // the estimate at the step before
};

// DPM-Solver++ that repeats each step with one order more when the next velocity is known.
class UniPcSampler final : public DpmSampler {
 public:
  explicit UniPcSampler(Schedule schedule) : DpmSampler(std::move(schedule)) {}

 private:
  at::Tensor advance(int64_t step, const at::Tensor& latent, const at::Tensor& velocity) override {
    const at::Tensor arrived = clean_estimate(latent, velocity, sigma(step));
    start_ = step == 0 ? latent.to(torch::kFloat32) : corrected(step, arrived);
    earlier_ = clean_;
    clean_ = arrived;
    return leave(step, start_);
  }

  // Repeats the last step: the corrected latent at the level of `step`.
  at::Tensor corrected(int64_t step, const at::Tensor& arrived) const {
    const at::Tensor mean = earlier_.defined()
                                ? corrected_clean(clean_, arrived, earlier_, sigma(step - 2),
                                                  sigma(step - 1), sigma(step))
                                : corrected_clean(clean_, arrived);
    return toward_clean(start_, mean, sigma(step - 1), sigma(step));
  }

  at::Tensor start_;  // the corrected latent at which the latest step started
};

template <class Kind>
std::unique_ptr<Sampler> make(Schedule schedule) {
  return std::make_unique<Kind>(std::move(schedule));
}

struct Recipe {
  const char* name;
  at::Tensor (*levels)(int64_t steps, double shift);
  Schedule (*schedule)(const at::Tensor& levels);
  std::unique_ptr<Sampler> (*sampler)(Schedule schedule);
};

// To add a sampler, add one line here.
constexpr auto kRecipes = std::to_array<Recipe>({
    {"euler", euler_levels, exact_schedule, make<EulerSampler>},
    {"unipc", unipc_levels, whole_schedule, make<UniPcSampler>},
    {"dpm++", dpm_levels, whole_schedule, make<DpmSampler>},
    {"diffusers-unipc", diffusers_unipc_levels, whole_schedule_below_one, make<UniPcSampler>},
    {"diffusers-unipc-0.36", diffusers_unipc_036_levels, whole_schedule, make<UniPcSampler>},
    {"diffusers-euler", diffusers_euler_levels, exact_schedule, make<EulerSampler>},
});

constexpr int64_t kMostSteps = 10000;

// The levels that a user gave, without the 0 at the end -> [steps] float64.
at::Tensor given_levels(const std::vector<double>& sigmas, int64_t steps) {
  if (num_steps(sigmas) != steps) {
    throw InputError("`sigmas`: found " + std::to_string(num_steps(sigmas)) +
                     " noise levels above 0, expected as many as `steps`, " +
                     std::to_string(steps));
  }
  const at::Tensor levels = torch::tensor(sigmas, torch::kFloat64).slice(0, 0, steps);
  for (int64_t i = 0; i < steps; ++i) {
    check_range("`sigmas`", levels[i].item<double>(), 1e-6, 1.0);
  }
  return levels;
}

// "euler, unipc, ..."
std::string joined_names() {
  std::string text;
  for (const Recipe& recipe : kRecipes) {
    text.append(text.empty() ? "" : ", ").append(recipe.name);
  }
  return text;
}

// Throws unless the levels decrease: two equal levels would cause a division by zero.
void check_falling(const at::Tensor& sigmas) {  // [N + 1]
  const at::Tensor bad = (sigmas.diff() >= 0).nonzero();
  if (bad.numel() > 0) {
    const auto i = bad[0].item<int64_t>();
    const auto text = [&](int64_t at) { return nlohmann::json(sigmas[at].item<float>()).dump(); };
    throw InputError("noise levels: found " + text(i + 1) + " after " + text(i) +
                     ", expected falling ones: check `sigmas`, or `steps` and `shift`");
  }
}

}  // namespace

Sampler::Sampler(Schedule schedule) : schedule_(std::move(schedule)) {
  const float* sigmas = schedule_.sigmas.const_data_ptr<float>();
  sigmas_.assign(sigmas, sigmas + schedule_.sigmas.size(0));
}

at::Tensor Sampler::step(int64_t step, const at::Tensor& latent, const at::Tensor& velocity) {
  TORCH_CHECK(step == next_step_ && step < steps(), "step ", step, " of ", steps(), ", expected ",
              next_step_);
  ++next_step_;
  return advance(step, latent, velocity);
}

const std::vector<std::string>& sampler_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const Recipe& recipe : kRecipes) {
      list.emplace_back(recipe.name);
    }
    return list;
  }();
  return names;
}

const std::string& sampler_help() {
  static const std::string text = "sampler: " + joined_names();
  return text;
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, int64_t steps, double shift,
                                      const std::vector<double>& sigmas) {
  check_range("`steps`", steps, int64_t{1}, kMostSteps);
  check_range("`shift`", shift, 1e-3, 1000.0);
  for (const Recipe& recipe : kRecipes) {
    if (name == recipe.name) {
      Schedule schedule = recipe.schedule(sigmas.empty() ? recipe.levels(steps, shift)
                                                         : given_levels(sigmas, steps));
      check_falling(schedule.sigmas);
      return recipe.sampler(std::move(schedule));
    }
  }
  throw InputError("`scheduler`: found \"" + name + "\", expected one of: " + joined_names());
}

int64_t num_steps(const std::vector<double>& sigmas) {
  const auto count = static_cast<int64_t>(sigmas.size());
  return count > 0 && sigmas.back() == 0 ? count - 1 : count;
}

}  // namespace ospnext
