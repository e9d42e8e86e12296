// Samplers, by name: they compute the next latent from a velocity, step by step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "schedulers/schedules.h"

namespace ospnext {

// One sampling run of one latent, or of a batch with a common schedule. Multistep samplers keep the
// results of earlier steps, so every run needs its own sampler.
class Sampler {
 public:
  virtual ~Sampler() = default;

  const Schedule& schedule() const { return schedule_; }
  int64_t steps() const { return schedule_.timesteps.size(0); }

  // One step. latent at level sigmas[step] and the guided velocity there, of equal shape -> the
  // latent at level sigmas[step + 1], float32. Call it once with each step = 0, 1, ...,
  // steps() - 1, in this order.
  at::Tensor step(int64_t step, const at::Tensor& latent, const at::Tensor& velocity);

 protected:
  explicit Sampler(Schedule schedule);

  // The level of step i; the final 0 for i = steps().
  double sigma(int64_t i) const { return sigmas_[static_cast<size_t>(i)]; }
  virtual at::Tensor advance(int64_t step, const at::Tensor& latent,
                             const at::Tensor& velocity) = 0;

 private:
  Schedule schedule_;
  std::vector<double> sigmas_;  // a copy of schedule_.sigmas for fast access to single values
  int64_t next_step_ = 0;
};

// The names that make_sampler() accepts. The first one is OSP-Next's sampler.
const std::vector<std::string>& sampler_names();
// Help texts of the fields `scheduler` and `sigmas`.
const std::string& sampler_help();
inline constexpr const char* kSigmasHelp =
    "noise levels of the steps, falling from at most 1, as they are: instead of `steps` and "
    "`shift`";

// A run of the sampler `name`. Without `sigmas` it uses the sampler's own levels for `steps` and
// `shift`. Otherwise it uses `sigmas` unchanged: `steps` decreasing levels, the first at most 1; a
// 0 at the end is added if it is missing. Throws InputError for an unknown name (the message lists
// the known ones), for steps or a shift out of range, and for other `sigmas`.
std::unique_ptr<Sampler> make_sampler(const std::string& name, int64_t steps, double shift,
                                      const std::vector<double>& sigmas = {});

// The number of steps of a run over the levels `sigmas`. A 0 at the end does not count.
int64_t num_steps(const std::vector<double>& sigmas);

}  // namespace ospnext
