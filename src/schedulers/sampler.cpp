#include "schedulers/sampler.h"

#include <functional>
#include <utility>

#include "core/error.h"

namespace ospnext {
namespace {

class EulerSampler final : public Sampler {
 public:
  EulerSampler(int64_t steps, double shift) : Sampler(flow_matching_schedule(steps, shift)) {}

  at::Tensor step(int64_t step, const at::Tensor& latent, const at::Tensor& velocity) override {
    const float* sigmas = schedule().sigmas.const_data_ptr<float>();
    TORCH_CHECK(step >= 0 && step < steps(), "step ", step, " of ", steps());
    return euler_step(latent, velocity, sigmas[step], sigmas[step + 1]);
  }
};

using Factory = std::function<std::unique_ptr<Sampler>(int64_t steps, double shift)>;

// A new sampler is one line here.
const std::vector<std::pair<std::string, Factory>>& factories() {
  static const std::vector<std::pair<std::string, Factory>> all = {
      {"euler",
       [](int64_t steps, double shift) { return std::make_unique<EulerSampler>(steps, shift); }},
  };
  return all;
}

}  // namespace

const std::vector<std::string>& sampler_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> list;
    for (const auto& [name, factory] : factories()) {
      list.push_back(name);
    }
    return list;
  }();
  return names;
}

std::unique_ptr<Sampler> make_sampler(const std::string& name, int64_t steps, double shift) {
  std::string known;
  for (const auto& [candidate, factory] : factories()) {
    if (candidate == name) {
      return factory(steps, shift);
    }
    known += (known.empty() ? "" : ", ") + candidate;
  }
  throw InputError("--scheduler: found \"" + name + "\", expected one of: " + known);
}

}  // namespace ospnext
