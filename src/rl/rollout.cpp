#include "rl/rollout.h"

#include "schedulers/sampler.h"

namespace ospnext {
namespace {

// Follows a plan, and keeps what its noisy steps did.
class RecordingSampler final : public Sampler {
 public:
  RecordingSampler(const RolloutPlan& plan, const RolloutRequest& request)
      : Sampler(plan.schedule), plan_(plan), sampler_(plan), request_(request) {}

  Rollout rollout(const at::Tensor& clean) {
    Rollout result{.request = request_, .latents = {}, .log_probs = {}, .clean = clean};
    if (!latents_.empty()) {
      latents_.push_back(after_);
      result.latents = at::stack(latents_);
      result.log_probs = at::stack(log_probs_);
    }
    return result;
  }

 private:
  at::Tensor advance(int64_t i, const at::Tensor& latent, const at::Tensor& velocity) override {
    if (plan_.methods[static_cast<size_t>(i)] != StepMethod::kNoisy) {
      return sampler_.step(i, latent, velocity, {}).next;
    }
    const at::IntArrayRef shape = latent.sizes().slice(1);
    const at::Tensor noise = noise_of_each(
        request_.places, [&](const NoisePlace& place) { return rollout_noise(place, i, shape); });
    const RolloutSampler::Step step = sampler_.step(i, latent, velocity, noise.to(latent.device()));
    latents_.push_back(latent);
    log_probs_.push_back(step.log_prob);
    after_ = step.next;
    return step.next;
  }

  const RolloutPlan& plan_;
  RolloutSampler sampler_;
  const RolloutRequest& request_;
  std::vector<at::Tensor> latents_, log_probs_;
  at::Tensor after_;  // the last noisy step
};

}  // namespace

Rollout roll_out(VideoModel& model, const GenerationConfig& generation, const RolloutPlan& plan,
                 const RolloutRequest& request, const JobControl& job) {
  const LatentSize size = latent_size(generation, model.vae_config());
  const std::vector<int64_t> shape = {model.vae_config().z_dim, size.frames, size.height,
                                      size.width};
  const at::Tensor start = noise_of_each(request.places, [&](NoisePlace place) {
    place.draw.sample = request.one_start ? 0 : place.draw.sample;
    return rollout_start(place, shape);
  });
  RecordingSampler sampler(plan, request);
  const at::Tensor clean = model.sample(request.prompts, start, generation, sampler, job);
  return sampler.rollout(clean);
}

}  // namespace ospnext
