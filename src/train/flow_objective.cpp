#include "train/flow_objective.h"

#include <algorithm>

#include "core/error.h"
#include "core/torch/random.h"
#include "engine/model_flops.h"
#include "schedulers/schedules.h"
#include "train/flow_matching.h"

namespace ospnext {
namespace {

// Noise like the clips [B, z, F, h, w] of a part of a batch.
at::Tensor draw_noise(const at::Tensor& latent, const BatchPart& part, uint64_t seed,
                      int64_t pass) {
  at::Tensor noise = at::empty_like(latent);
  for (int64_t i = 0; i < part.count; ++i) {
    at::Generator generator = seeded_generator(
        latent.device(), derived_seed(seed, "noise of a pass", pass), "clip", part.first + i);
    noise[i].normal_(0, 1, generator);
  }
  return noise;
}

at::Device device_of(const Transformer& transformer) {
  return transformer->head->modulation.device();
}

}  // namespace

double NoiseLevels::shift_of(int64_t height, int64_t width) const {
  constexpr double kLargest = 1000;
  if (!dynamic) {
    return shift;
  }
  const double of_size = dynamic_shift(height, width);
  if (of_size > kLargest) {
    throw InputError("`dynamic_shift`: found latents of " + std::to_string(height) + "x" +
                     std::to_string(width) + ", expected a size whose shift is at most " +
                     std::to_string(static_cast<int64_t>(kLargest)));
  }
  return of_size;
}

FlowObjective::FlowObjective(Transformer& transformer, Umt5Encoder* encoder, ClipSource& source,
                             const TrainingRanks& ranks, SampleClips* samples,
                             const Options& options)
    : transformer_(transformer),
      encoder_(encoder),
      source_(source),
      ranks_(ranks),
      samples_(samples),
      options_(options),
      tables_(transformer->config(), device_of(transformer), ranks.work.sequence),
      blocks_(transformer, options.checkpointing),
      recorded_(
          [this](const std::vector<at::Tensor>& in) {
            ClipBatch batch{.latent = in[0]};
            (encoder_ != nullptr ? batch.ids : batch.text) = in[3];
            Execution run{transformer_->numerics()};
            run.blocks = &blocks_;
            const at::Tensor loss = loss_of(batch, /*noise=*/in[1], /*sigma=*/in[2], run);
            loss.backward();
            return loss.detach();
          },
          options.cuda_graph && ranks.all().alone()) {}

at::Tensor FlowObjective::loss_of(const ClipBatch& batch, const at::Tensor& noise,
                                  const at::Tensor& sigma, const Execution& run) {
  const at::Tensor rows = encoder_ != nullptr
                              ? (*encoder_)->forward(batch.ids, (batch.ids != 0).to(at::kLong))
                              : batch.text;  // [B, T, D]
  const FlowSamples samples{.latent = batch.latent,
                            .noise = noise,
                            .sigma = sigma,
                            .text = pad_text(rows, transformer_->config().text_len)};
  return flow_matching_loss(transformer_, samples, tables_.of(token_grid(batch.latent)), run);
}

Pass FlowObjective::add_gradients() {
  const int64_t own = options_.batch_size / ranks_.work.mesh.data;
  const BatchPart part{ranks_.work.video * own, own, options_.batch_size};
  const ClipBatch batch = source_.next(part);
  const at::Tensor& latent = batch.latent;
  at::Generator of_levels =
      seeded_generator(latent.device(), options_.seed, "noise levels", passes_);
  const at::Tensor normal = at::randn({part.whole}, of_levels, latent.options());
  const double shift = options_.levels.shift_of(latent.size(-2), latent.size(-1));
  const at::Tensor sigma = logit_normal_sigma(normal.narrow(0, part.first, own), shift);
  const at::Tensor noise = draw_noise(latent, part, options_.seed, passes_++);
  const at::Tensor loss =
      recorded_({latent, noise, sigma, encoder_ != nullptr ? batch.ids : batch.text});
  const double forward = flops_of(token_grid(latent));
  return {.losses = {{"loss", loss}},
          .samples = part.whole,
          .flops = 3 * forward * static_cast<double>(part.whole)};
}

nlohmann::json FlowObjective::state() const {
  return {{"passes", passes_}, {"clips", source_.state()}};
}

void FlowObjective::restore(const nlohmann::json& state, const std::string& origin) {
  passes_ = count_of_state(state, "passes", origin);
  source_.restore(state.contains("clips") ? state.at("clips") : nlohmann::json(),
                  origin + ": clips");
}

at::Tensor FlowObjective::held_out_loss(int64_t i) {
  const ClipBatch clip = source_.held_out(i);
  const at::Tensor& latent = clip.latent;  // [1, z, F, h, w]
  at::Generator generator = seeded_generator(latent.device(), options_.seed, "validation noise", i);
  const at::Tensor noise = at::randn(latent.sizes(), generator, latent.options());
  const double quantile =
      (static_cast<double>(i) + 0.5) / static_cast<double>(source_.held_out_clips());
  const at::Tensor normal = at::special_ndtri(at::full({1}, quantile, latent.options()));
  const double shift = options_.levels.shift_of(latent.size(-2), latent.size(-1));
  return loss_of(clip, noise, logit_normal_sigma(normal, shift), {transformer_->numerics()});
}

Scalars FlowObjective::validate() {
  const torch::NoGradGuard no_grad;
  const int64_t clips = source_.held_out_clips(), groups = ranks_.work.mesh.data;
  if (clips == 0) {
    return {};
  }
  at::Tensor sum = at::zeros({1}, at::TensorOptions().device(device_of(transformer_)));
  for (int64_t first = 0; first < clips; first += groups) {
    const int64_t own = first + ranks_.work.video;
    const at::Tensor loss = held_out_loss(std::min(own, clips - 1));  // all run: they share weights
    if (own < clips) {
      sum += loss;
    }
  }
  transformer_->sharded_weights().forget_ahead();          // the weights will change
  const double copies = ranks_.work.mesh.sequence.size();  // processes with the same clip
  const double total = ranks_.all().all_sum(sum, "validation").item<double>();
  return {{"validation_loss", total / copies / static_cast<double>(clips)}};
}

int64_t FlowObjective::sample_interval() const {
  return samples_ == nullptr ? 0 : samples_->interval();
}

void FlowObjective::sample(int64_t step) {
  samples_->make(step);
  transformer_->sharded_weights().forget_ahead();
}

// Model FLOPs of a forward pass of one clip.
double FlowObjective::flops_of(const Grid& grid) {
  const auto [entry, is_new] = flops_.try_emplace(grid);
  if (is_new) {
    entry->second = forward_flops(transformer_->config(), grid);
  }
  return entry->second;
}

}  // namespace ospnext
