// The sampler by name: what turns velocities into the next latent, step by step.
#pragma once

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "schedulers/flow_matching.h"

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
  virtual at::Tensor step(int64_t step, const at::Tensor& latent, const at::Tensor& velocity) = 0;

 protected:
  explicit Sampler(Schedule schedule) : schedule_(std::move(schedule)) {}

 private:
  Schedule schedule_;
};

// The names make_sampler() knows; the first is OSP-Next's.
const std::vector<std::string>& sampler_names();

// Throws InputError for a name it does not know, naming those it does, and for steps or a shift out of
// range.
std::unique_ptr<Sampler> make_sampler(const std::string& name, int64_t steps, double shift);

}  // namespace ospnext
