#include "rl/update_rule.h"

#include <algorithm>

#include "rl/forward_loss.h"
#include "rl/policy_loss.h"

namespace ospnext {
namespace {

// The share of `count` that is trained, at least one.
int64_t trained_of(int64_t count, double fraction) {
  return std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(count) * fraction));
}

// One tensor of each video: of(its rollout, its index there) -> [n, ...]
template <class Of>
at::Tensor of_each(const EpochRollouts& epoch, const Update& update, const Of& of) {
  std::vector<at::Tensor> tensors;
  for (const VideoPlace& place : update.videos) {
    tensors.push_back(of(epoch.rollouts[static_cast<size_t>(place.rollout)], place.video));
  }
  return at::stack(tensors);
}

// Of step i of the rollouts.
NoiseTime time_of(const EpochRollouts& epoch, int64_t i) {
  const at::Device device = epoch.rollouts.front().clean.device();
  return {.noise_level = epoch.plan.sigma(i),
          .timestep = epoch.plan.schedule.timesteps.narrow(0, i, 1).to(device, at::kFloat)};
}

// Clipped ratios of the probabilities of the steps with noise.
class RatioRule final : public UpdateRule {
 public:
  RatioRule(const RlConfig& config, Policy& policy) : config_(config), policy_(policy) {}

  int64_t terms(const EpochRollouts& epoch) const override {
    return trained_of(epoch.noisy.end - epoch.noisy.begin, config_.update.timestep_fraction);
  }

  // Log-probabilities [T, n]: those of the rollout if the update computes them alike; else they are
  // computed anew as the update does, since other shapes may round otherwise, and without guidance
  // it is another policy.
  at::Tensor old(const EpochRollouts& epoch, const Update& update,
                 const std::function<PolicyTexts()>& texts) override {
    const int64_t T = terms(epoch);
    if (std::ssize(update.videos) == config_.rollout.sample_batch_size &&
        config_.rollout.guidance_in_update) {
      return of_each(epoch, update,
                     [T](const Rollout& rollout, int64_t video) {
                       return rollout.log_probs.narrow(0, 0, T).select(1, video);  // [T]
                     })
          .t();  // [T, n]
    }
    const PolicyTexts words = texts();
    std::vector<at::Tensor> steps;
    for (int64_t j = 0; j < T; ++j) {
      const int64_t i = epoch.noisy.begin + j;
      const at::Tensor latent = latents(epoch, update, j);
      const SdeStep step = epoch.plan.noisy_step(
          i, latent, policy_.fixed_velocity(latent, time_of(epoch, i), words));
      steps.push_back(log_density(step, latents(epoch, update, j + 1)));
    }
    return at::stack(steps);
  }

  UpdateTerm term(const EpochRollouts& epoch, const Update& update, const PolicyTexts& texts,
                  int64_t j) override {
    const PolicyLoss loss = loss_of_step(epoch, update, texts, j);
    return {.loss = loss.loss,
            .distance = (loss.ratio - 1).abs().max().detach(),
            .numbers = {{"policy_loss", loss.policy_loss.detach()},
                        {"kl_loss", loss.kl.detach()},
                        {"approx_kl", loss.approx_kl},
                        {"clipfrac", loss.clip_fraction}}};
  }

  const char* distance_name() const override { return "ratio_distance"; }

 private:
  PolicyLoss loss_of_step(const EpochRollouts& epoch, const Update& update,
                          const PolicyTexts& texts, int64_t j) {
    const at::Tensor latent = latents(epoch, update, j);
    const at::Tensor next = latents(epoch, update, j + 1);
    const int64_t i = epoch.noisy.begin + j;
    const NoiseTime time = time_of(epoch, i);
    ReferencedMeans means;
    if (config_.update.loss.kl_beta > 0) {
      const SdeStep reference =
          epoch.plan.noisy_step(i, latent, policy_.reference_velocity(latent, time, texts));
      means.reference = noise_coordinates(reference.cells, reference.mean);
    }
    const SdeStep step = epoch.plan.noisy_step(i, latent, policy_.velocity(latent, time, texts));
    if (means.reference.defined()) {
      means.policy = noise_coordinates(step.cells, step.mean);
      means.std = step.std;
    }
    return policy_loss(config_.update.loss, log_density(step, next), update.old[j],
                       update.advantages.to(latent.device()), means);
  }

  // The latents before noisy step j, which are those behind step j - 1: [n, C, F, h, w].
  static at::Tensor latents(const EpochRollouts& epoch, const Update& update, int64_t j) {
    return of_each(epoch, update, [j](const Rollout& rollout, int64_t video) {
      return rollout.latents[j][video];
    });
  }

  const RlConfig& config_;
  Policy& policy_;
};

// Noised videos, with good ones and bad ones (DiffusionNFT).
class ForwardRule final : public UpdateRule {
 public:
  ForwardRule(const RlConfig& config, Policy& policy) : config_(config), policy_(policy) {}

  int64_t terms(const EpochRollouts& epoch) const override {
    return trained_of(epoch.plan.steps(), config_.update.timestep_fraction);
  }

  // Velocities [T, n, C, F, h, w]; undefined in a first update, where they are the policy's.
  at::Tensor old(const EpochRollouts& epoch, const Update& update,
                 const std::function<PolicyTexts()>& texts) override {
    if (update.first) {
      return {};
    }
    const PolicyTexts words = texts();
    std::vector<at::Tensor> velocities;
    for (int64_t j = 0; j < terms(epoch); ++j) {
      velocities.push_back(
          policy_.fixed_velocity(noised(epoch, update, j).noised, time_of(epoch, j), words));
    }
    return at::stack(velocities);
  }

  UpdateTerm term(const EpochRollouts& epoch, const Update& update, const PolicyTexts& texts,
                  int64_t j) override {
    const NoisedVideos videos = noised(epoch, update, j);
    const NoiseTime time = time_of(epoch, j);
    const UpdateConfig& settings = config_.update;
    ForwardVelocities velocities;
    if (settings.loss.kl_beta > 0) {
      velocities.reference = policy_.reference_velocity(videos.noised, time, texts);
    }
    velocities.policy = policy_.velocity(videos.noised, time, texts);
    velocities.old = update.first ? velocities.policy.detach() : update.old[j];
    const ForwardLoss loss =
        forward_loss({.beta = settings.nft_beta,
                      .kl_beta = settings.loss.kl_beta,
                      .adv_clip = settings.loss.adv_clip},
                     videos, velocities, update.advantages.to(videos.clean.device()));
    return {.loss = loss.loss,
            .distance = loss.change,
            .numbers = {{"policy_loss", loss.policy_loss.detach()}, {"kl_loss", loss.kl.detach()}}};
  }

  const char* distance_name() const override { return "velocity_change"; }

 private:
  // The videos at level j of the rollout, with noise of their own in each pass.
  NoisedVideos noised(const EpochRollouts& epoch, const Update& update, int64_t j) const {
    const at::Tensor clean = of_each(
        epoch, update, [](const Rollout& rollout, int64_t video) { return rollout.clean[video]; });
    std::vector<NoisePlace> places;
    for (const VideoPlace& place : update.videos) {
      places.push_back(epoch.rollouts[static_cast<size_t>(place.rollout)]
                           .request.places[static_cast<size_t>(place.video)]);
    }
    const at::IntArrayRef shape = clean.sizes().slice(1);
    const int64_t draw = update.pass * terms(epoch) + j;
    const at::Tensor noise = noise_of_each(
        places, [&](const NoisePlace& place) { return forward_noise(place, draw, shape); });
    const double level = epoch.plan.sigma(j);
    return {.clean = clean,
            .noised = level * noise.to(clean.device()) + (1 - level) * clean,
            .level = level};
  }

  const RlConfig& config_;
  Policy& policy_;
};

}  // namespace

int64_t last_trained_step(const RlConfig& config) {
  const SdeWindowConfig& window = config.rollout.window;
  const int64_t steps = config.rollout.steps;
  if (window.algorithm == "nft") {
    return trained_of(steps, config.update.timestep_fraction) - 1;
  }
  const bool moves =
      window.algorithm == "mix" && (window.window == "random" || window.window_stride > 0);
  return moves ? steps - 3 : trained_of(window.sde_steps, config.update.timestep_fraction) - 1;
}

std::unique_ptr<UpdateRule> make_update_rule(const RlConfig& config, Policy& policy) {
  if (config.rollout.window.algorithm == "nft") {
    return std::make_unique<ForwardRule>(config, policy);
  }
  return std::make_unique<RatioRule>(config, policy);
}

}  // namespace ospnext
