#include "rl/rollout.h"

#include <ATen/Parallel.h>

#include "schedulers/sampler.h"

namespace ospnext {
namespace {

// Draws noise for each place: draw(place) [C, F, h, w] -> [B, C, F, h, w] on the CPU.
template <class Draw>
at::Tensor noise_of(const std::vector<NoisePlace>& places, const Draw& draw) {
  std::vector<at::Tensor> drawn(places.size());
  at::parallel_for(0, static_cast<int64_t>(places.size()), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      drawn[static_cast<size_t>(i)] = draw(places[static_cast<size_t>(i)]);
    }
  });
  return at::stack(drawn);
}

// Follows a plan, and keeps what its noisy steps did.
class RecordingSampler final : public Sampler {
 public:
  RecordingSampler(const RolloutPlan& plan, const std::vector<NoisePlace>& places)
      : Sampler(plan.schedule), plan_(plan), sampler_(plan), places_(places) {}

  Rollout rollout(const at::Tensor& clean) {
    latents_.push_back(after_);
    return {.latents = at::stack(latents_), .log_probs = at::stack(log_probs_), .clean = clean};
  }

 private:
  at::Tensor advance(int64_t i, const at::Tensor& latent, const at::Tensor& velocity) override {
    if (plan_.methods[static_cast<size_t>(i)] != StepMethod::kNoisy) {
      return sampler_.step(i, latent, velocity, {}).next;
    }
    const at::IntArrayRef shape = latent.sizes().slice(1);
    const at::Tensor noise =
        noise_of(places_, [&](const NoisePlace& place) { return rollout_noise(place, i, shape); });
    const RolloutSampler::Step step = sampler_.step(i, latent, velocity, noise.to(latent.device()));
    latents_.push_back(latent);
    log_probs_.push_back(step.log_prob);
    after_ = step.next;
    return step.next;
  }

  const RolloutPlan& plan_;
  RolloutSampler sampler_;
  const std::vector<NoisePlace>& places_;
  std::vector<at::Tensor> latents_, log_probs_;
  at::Tensor after_;  // the last noisy step
};

}  // namespace

Rollout roll_out(VideoModel& model, const GenerationConfig& generation, const RolloutPlan& plan,
                 const RolloutRequest& request, const JobControl& job) {
  const LatentSize size = latent_size(generation, model.vae_config());
  const std::vector<int64_t> shape = {model.vae_config().z_dim, size.frames, size.height,
                                      size.width};
  const at::Tensor start = noise_of(request.places, [&](NoisePlace place) {
    place.draw.sample = request.one_start ? 0 : place.draw.sample;
    return rollout_start(place, shape);
  });
  RecordingSampler sampler(plan, request.places);
  const at::Tensor clean = model.sample(request.prompts, start, generation, sampler, job);
  return sampler.rollout(clean);
}

}  // namespace ospnext
