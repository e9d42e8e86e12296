#include "train/vae_training.h"

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "core/number_check.h"
#include "core/torch/random.h"
#include "data/tiny_world/procedural_clips.h"
#include "io/readers/bounded_json.h"
#include "packages/load_model.h"
#include "train/model_folder_writer.h"

namespace ospnext {
namespace {

constexpr int64_t kFullLength = kMotionFrames;
constexpr double kTwoObjectsShare = 0.4;  // two objects have twice as many edges to learn from
constexpr std::array<int64_t, 2> kShortLengths = {9, 17};

// The specifications of the clips of one step.
std::vector<ClipSpec> clips_of_step(const VaeTrainingConfig& config,
                                    const std::vector<FrameSize>& sizes, int64_t step) {
  at::Generator draw = seeded_generator(config.seed, "vae window", step);
  const at::Tensor uniform = at::rand({3}, draw);
  const bool full = uniform[0].item<double>() < config.full_length_share;
  const int64_t frames =
      full ? kFullLength : kShortLengths[uniform[1].item<double>() < 0.5 ? 0 : 1];
  // Only whole clips vary in frame size: cuDNN needs seconds to choose algorithms for each shape.
  const FrameSize& size = sizes[full ? pick_frame_size(sizes, uniform[2].item<double>()) : 0];
  const ClipOptions options{.height = size.height,
                            .width = size.width,
                            .num_frames = frames,
                            .two_objects = kTwoObjectsShare};
  std::vector<ClipSpec> specs;
  const int64_t clips = std::max<int64_t>(1, config.frames_per_step / frames);
  for (int64_t i = 0; i < clips; ++i) {
    specs.push_back(
        sample_clip(config.seed, step * config.frames_per_step + i, ClipSplit::kTrain, options));
  }
  return specs;
}

// Renders the clips of several passes at once. Rendering waits for the device, and most passes
// should not wait.
class TrainingClips {
 public:
  TrainingClips(const VaeTrainingConfig& config, std::vector<FrameSize> sizes, at::Device device)
      : config_(config), sizes_(std::move(sizes)), device_(device) {}

  // The clips of a pass. Call it once per pass, in order.
  // -> [B, 3, T, H, W] in [-1, 1], T frames of H x W pixels
  at::Tensor take(int64_t pass) {
    if (!drawn_.contains(pass)) {
      const int64_t all = config_.steps * config_.accumulate;
      draw(pass, std::max(pass + 1, std::min(pass + kPassesAtOnce, all)));
    }
    return drawn_.extract(pass).mapped();
  }

 private:
  static constexpr int64_t kPassesAtOnce = 32;

  void draw(int64_t begin, int64_t end) {
    using Shape = std::array<int64_t, 3>;
    std::map<Shape, std::vector<ClipSpec>> clips;  // of all steps with clips of that shape
    std::map<Shape, std::vector<std::pair<int64_t, int64_t>>> shares;  // (step, number of clips)
    for (int64_t step = begin; step < end; ++step) {
      const std::vector<ClipSpec> specs = clips_of_step(config_, sizes_, step);
      const Shape shape = {specs[0].num_frames, specs[0].height, specs[0].width};
      clips[shape].insert(clips[shape].end(), specs.begin(), specs.end());
      shares[shape].emplace_back(step, static_cast<int64_t>(specs.size()));
    }
    for (const auto& [shape, specs] : clips) {
      const at::Tensor videos = render_clips(specs, device_);
      int64_t first = 0;
      for (const auto& [step, count] : shares[shape]) {
        drawn_[step] = videos.narrow(0, first, count);
        first += count;
      }
    }
  }

  const VaeTrainingConfig& config_;
  std::vector<FrameSize> sizes_;
  at::Device device_;
  std::map<int64_t, at::Tensor> drawn_;
};

at::Tensor channels_last(const at::Tensor& video, at::ScalarType precision) {
  return video.to(precision).contiguous(at::MemoryFormat::ChannelsLast3d);
}

// The loss of a reconstruction, a weighted sum, followed by its two terms: squared and absolute
// error.
Losses reconstruction_losses(const at::Tensor& decoded, const at::Tensor& video,
                             const VaeTrainingConfig& config) {
  const at::Tensor error = decoded.to(at::kFloat) - video;
  const at::Tensor squared = error.square().mean();
  const at::Tensor absolute = error.abs().mean();
  return {{"loss", squared + config.absolute_weight * absolute},
          {"squared_error", squared},
          {"absolute_error", absolute}};
}

// Losses of a reconstruction from a random sample of the latent's distribution, and the KL
// divergence of this distribution from N(0, 1). `noise` draws the sample.
Losses vae_losses(Vae& vae, const at::Tensor& video, const VaeTrainingConfig& config,
                  at::ScalarType precision, at::Generator noise) {
  const auto moments = vae->encode_clip(channels_last(video, precision)).to(at::kFloat).chunk(2, 1);
  const at::Tensor mean = moments[0];  // [B, z, F, h, w]
  const at::Tensor log_variance = moments[1].clamp(-20, 10);
  const at::Tensor z =
      mean + (0.5 * log_variance).exp() * at::randn(mean.sizes(), noise, mean.options());
  Losses losses = reconstruction_losses(vae->decode_clip(z.to(precision)), video, config);
  const at::Tensor divergence =
      0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).mean();
  losses[0].second = losses[0].second + config.kl_weight * divergence;
  losses.emplace_back("kl", divergence);
  return losses;
}

// Losses of a reconstruction from the mean latent, without a random sample. Only the decoder gets
// gradients. When videos are generated, the decoder gets such latents.
Losses decoder_losses(Vae& vae, const at::Tensor& video, const VaeTrainingConfig& config,
                      at::ScalarType precision) {
  at::Tensor mean;
  {
    const at::NoGradGuard no_grad;
    mean = vae->encode_clip(channels_last(video, precision)).chunk(2, 1)[0];
  }
  return reconstruction_losses(vae->decode_clip(mean), video, config);
}

// The VAE to train: with random weights, or with those of config.initial_vae.
Vae initial_vae(const VaeTrainingConfig& config, at::Device device) {
  Vae vae{nullptr};
  if (config.initial_vae.empty()) {
    at::manual_seed(derived_seed(config.seed, "vae initial weights"));
    vae = Vae(vae_config_from_json(read_json_file(config.vae_config), config.vae_config));
    vae->to(device);
  } else {
    const ModelFiles files = find_model_files({.vae = config.initial_vae});
    vae = load_vae(files.require(ModelPart::kVae), {.device = device, .dtype = at::kFloat});
  }
  vae->to_channels_last();
  for (const auto& entry : vae->named_parameters()) {
    const bool of_encoder =
        entry.key().starts_with("encoder.") || entry.key().starts_with("conv1.");
    entry.value().set_requires_grad(!(config.decoder_only && of_encoder));
  }
  return vae;
}

// A pass trains on the clips of its number.
class VaeObjective final : public Objective {
 public:
  VaeObjective(const VaeTrainingConfig& config, Vae& vae, at::Device device,
               at::ScalarType precision, const CancellationToken& cancel)
      : config_(config),
        vae_(vae),
        device_(device),
        precision_(precision),
        cancel_(cancel),
        sizes_(parse_frame_sizes("`sizes`", config.sizes)),
        clips_(config, sizes_, device) {}

  Pass add_gradients() override {
    const int64_t pass = passes_++;
    const at::Tensor video = clips_.take(pass);
    Losses losses =
        config_.decoder_only
            ? decoder_losses(vae_, video, config_, precision_)
            : vae_losses(vae_, video, config_, precision_,
                         seeded_generator(device_, config_.seed, "vae latent noise", pass));
    losses.front().second.backward();
    return {.losses = std::move(losses), .samples = video.size(0)};
  }

  nlohmann::json state() const override { return {{"passes", passes_}}; }
  void restore(const nlohmann::json& state, const std::string& origin) override {
    passes_ = count_of_state(state, "passes", origin);
  }

  Scalars validate() override {
    const VaeQuality quality = measure_vae(vae_, sizes_[0], device_, precision_,
                                           config_.evaluation_clips, config_.seed, cancel_);
    return {{"validation_psnr", quality.mean_db},
            {"validation_worst_psnr", quality.worst_position_db()}};
  }

 private:
  const VaeTrainingConfig& config_;
  Vae& vae_;
  at::Device device_;
  at::ScalarType precision_;
  const CancellationToken& cancel_;
  std::vector<FrameSize> sizes_;
  TrainingClips clips_;
  int64_t passes_ = 0;  // so far
};

// Writes the mean and standard deviation of each latent channel over 128 training clips to
// `config`.
void measure_latent_statistics(Vae& vae, VaeConfig& config, const FrameSize& size,
                               at::Device device, at::ScalarType precision, uint64_t seed,
                               const CancellationToken& cancel) {
  const at::NoGradGuard no_grad;
  const ClipOptions options{.height = size.height,
                            .width = size.width,
                            .num_frames = kFullLength,
                            .two_objects = kTwoObjectsShare};
  std::vector<at::Tensor> means;
  for (int64_t batch = 0; batch < 32; ++batch) {
    cancel.check();
    std::vector<ClipSpec> specs;
    for (int64_t i = 0; i < 4; ++i) {
      specs.push_back(sample_clip(derived_seed(seed, "latent statistics"), batch * 4 + i,
                                  ClipSplit::kTrain, options));
    }
    const at::Tensor moments =
        vae->encode_clip(render_clips(specs, device).to(precision)).to(at::kFloat);
    means.push_back(moments.narrow(1, 0, config.z_dim).transpose(0, 1).flatten(1));  // [z, B·F·h·w]
  }
  const at::Tensor all = at::cat(means, 1);
  const at::Tensor mean = all.mean(1).cpu();
  const at::Tensor deviation = all.std(1).clamp_min(1e-2).cpu();
  config.latents_mean.assign(mean.data_ptr<float>(), mean.data_ptr<float>() + config.z_dim);
  config.latents_std.assign(deviation.data_ptr<float>(),
                            deviation.data_ptr<float>() + config.z_dim);
}

}  // namespace

void VaeTrainingConfig::check() const {
  TrainingConfig::check();
  parse_frame_sizes("`sizes`", sizes);
  check_range("`frames_per_step`", frames_per_step, kFullLength, int64_t{100'000});
  check_range("`full_length_share`", full_length_share, 0.0, 1.0);
  check_range("`kl_weight`", kl_weight, 0.0, 1.0);
  check_range("`absolute_weight`", absolute_weight, 0.0, 100.0);
  check_range("`evaluation_clips`", evaluation_clips, int64_t{1}, int64_t{1'000'000});
  if (decoder_only && initial_vae.empty()) {
    throw InputError("`decoder_only`: expected an `initial_vae`, whose encoder is kept");
  }
}

std::optional<VaeQuality> train_vae(const VaeTrainingConfig& config, Progress& progress,
                                    const CancellationToken& cancel) {
  config.check();
  const auto [device, precision, hif8, offload] = parse_compute(config.device, config.precision);
  const std::vector<FrameSize> sizes = parse_frame_sizes("`sizes`", config.sizes);
  const auto lock = lock_output(config, /*leads=*/true);
  Vae vae = initial_vae(config, device);

  TrainedParameters parameters(named_parameters(*vae, ""));
  VaeObjective objective(config, vae, device, precision, cancel);
  TrainingRun run(config, parameters, objective, progress, cancel);
  const bool finished = run.run();
  if (!finished) {
    return std::nullopt;
  }
  run.ema().swap();
  VaeConfig vae_config = vae->config;
  if (!config.decoder_only) {
    measure_latent_statistics(vae, vae_config, sizes[0], device, precision, config.seed, cancel);
  }
  write_vae_folder(std::filesystem::path(config.output) / "vae", vae, vae_config);
  return measure_vae(vae, sizes[0], device, precision, config.evaluation_clips, config.seed,
                     cancel);
}

double VaeQuality::worst_position_db() const {
  return *std::min_element(position_db.begin(), position_db.end());
}

at::Tensor reconstruct(Vae& vae, const at::Tensor& videos, at::ScalarType precision) {
  const at::Tensor moments = vae->encode_clip(videos.to(precision));
  const at::Tensor mean = moments.narrow(1, 0, moments.size(1) / 2);
  return vae->decode_clip(mean).to(at::kFloat).clamp(-1, 1);
}

VaeQuality measure_vae(Vae& vae, const FrameSize& size, at::Device device, at::ScalarType precision,
                       int64_t clips, uint64_t seed, const CancellationToken& cancel) {
  const at::NoGradGuard no_grad;
  const ClipOptions options{.height = size.height, .width = size.width, .num_frames = kFullLength};
  at::Tensor sum = at::zeros({kFullLength}, at::kDouble);
  for (int64_t i = 0; i < clips; ++i) {
    cancel.check();
    const at::Tensor video =
        render_clips({sample_clip(seed, i, ClipSplit::kHeldOut, options)}, device);
    const at::Tensor decoded = reconstruct(vae, video, precision);
    const at::Tensor squared = (decoded - video).square().mean({0, 1, 3, 4});  // [T]
    sum += (10.0 * (4.0 / squared.clamp_min(1e-10)).log10()).to(at::kDouble).cpu();
  }
  sum /= static_cast<double>(clips);
  return {.mean_db = sum.mean().item<double>(),
          .position_db =
              std::vector<double>(sum.data_ptr<double>(), sum.data_ptr<double>() + kFullLength)};
}

}  // namespace ospnext
