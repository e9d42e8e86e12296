// The sampler by name: what turns velocities into the next latent, step by step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "schedulers/schedules.h"

namespace ospnext {

// One sampling run. Multistep samplers keep what earlier steps taught them, so every run (of one
// latent or of a batch whose samples share the schedule) has a sampler of its own.
class Sampler {
 public:
  virtual ~Sampler() = default;

  const Schedule& schedule() const { return schedule_; }
  int64_t steps() const { return schedule_.timesteps.size(0); }

  // The latent at sigmas[step + 1], float32, from the latent at sigmas[step] and the (guided) velocity
  // there, of equal shape. Call with step = 0, 1, ..., steps() - 1, once each, in this order.
  at::Tensor step(int64_t step, const at::Tensor& latent, const at::Tensor& velocity);

 protected:
  explicit Sampler(Schedule schedule);

  // The level of step i, and for i = steps() the final 0.
  double sigma(int64_t i) const { return sigmas_[static_cast<size_t>(i)]; }
  virtual at::Tensor advance(int64_t step, const at::Tensor& latent,
                             const at::Tensor& velocity) = 0;

 private:
  Schedule schedule_;
  std::vector<double> sigmas_;  // schedule_.sigmas, where single values are cheap to read
  int64_t next_step_ = 0;
};

// The names make_sampler() knows; the first is OSP-Next's.
const std::vector<std::string>& sampler_names();
// For the flags --scheduler and --sigmas.
const std::string& sampler_help();
inline constexpr const char* kSigmasHelp =
    "noise levels of the steps, falling from at most 1, as they are: instead of --steps and "
    "--shift";

// A run of the sampler `name`: over its own levels for `steps` and `shift`, or over the levels
// `sigmas` as they are, when there are any: falling, from at most 1; a 0 at the end is added if it
// is missing. Throws InputError for a name it does not know, naming those it does, for steps or a
// shift out of range, for `sigmas` that are no such levels, and unless `sigmas` are as many as
// `steps`.
std::unique_ptr<Sampler> make_sampler(const std::string& name, int64_t steps, double shift,
                                      const std::vector<double>& sigmas = {});

// How many steps a run over the levels `sigmas` has: a 0 at the end is not one.
int64_t num_steps(const std::vector<double>& sigmas);

}  // namespace ospnext
