#include "engine/text_to_video.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "engine/memory.h"
#include "schedulers/flow_matching.h"

namespace ospnext {
namespace {

// Which parts of a model are in memory at the same time.
enum class Residence {
  kAll,         // all from the beginning
  kEncoderToo,  // the encoder stays beside the others until the last text is embedded
  kInTurn,      // the encoder goes before the transformer comes
};

// The most that has room on this device beside `working` bytes. All parts are loaded at the
// beginning if they take less than a quarter of the free memory, or are there.
Residence residence_of(const VideoModel& model, int64_t working) {
  const std::pair<ModelPart, bool> parts[] = {{ModelPart::kTextEncoder, model.has_text_encoder()},
                                              {ModelPart::kTransformer, model.has_transformer()},
                                              {ModelPart::kVae, model.has_vae()}};
  int64_t missing = 0;
  for (const auto& [part, is_there] : parts) {
    missing += is_there ? 0 : model.source().device_bytes(part, model.compute());
  }
  const int64_t free = free_memory(model.compute().device);
  if (missing + working > free - free / 10) {
    return Residence::kInTurn;
  }
  return missing < free / 4 ? Residence::kAll : Residence::kEncoderToo;
}

// Bytes that a pass of the transformer needs beside its weights: some 10 tensors of all tokens were
// measured for the 14B model at 720P.
int64_t denoising_bytes(const TransformerConfig& transformer, const LatentSize& latent,
                        at::ScalarType dtype) {
  constexpr int64_t kTensors = 16;
  return kTensors * token_grid(latent).tokens() * transformer.dim *
         static_cast<int64_t>(at::elementSize(dtype));
}

// The stage of one of `count` samples.
Stage stage_of(const char* name, Stage::Kind kind, size_t sample, size_t count) {
  return {name, kind, count > 1 ? static_cast<int64_t>(sample) + 1 : -1};
}

// Samples that are made at the same time, and the texts to embed before.
struct Round {
  size_t first, count;
  std::vector<std::string> texts;
};

// Each text once, where it is needed first, or all in the first round.
std::vector<Round> rounds_of(const std::vector<VideoSample>& samples,
                             const GenerationConfig& config, size_t at_once, bool texts_first) {
  std::vector<Round> rounds;
  std::set<std::string> seen;
  const auto need = [&](const std::string& text) {
    if (seen.insert(text).second) {
      (texts_first ? rounds.front() : rounds.back()).texts.push_back(text);
    }
  };
  for (size_t i = 0; i < samples.size(); ++i) {
    if (i % at_once == 0) {
      rounds.push_back({i, std::min(at_once, samples.size() - i), {}});
    }
    need(samples[i].prompt);
    if (config.guidance_scale > 1) {
      need(config.negative_prompt);
    }
  }
  return rounds;
}

// One job. Its methods are the stages, in the order of their calls.
class Run {
 public:
  Run(VideoModel& model, const GenerationConfig& config, const std::vector<VideoSample>& samples,
      VideoReceiver& receiver, const JobControl& job, int64_t batch)
      : model_(model),
        ranks_(model.ranks()),
        config_(config),
        samples_(samples),
        receiver_(receiver),
        job_(job),
        batch_(std::min(batch, std::ssize(samples))),
        size_(latent_size(config, model.vae_config())) {
    config_.check(model.vae_config());
    model.forget_texts_if_many();
    tiling_ =
        vae_tiling_of(model.source(), model.compute(), config, samples.size(), ranks_.world->all());
    residence_ = residence_everywhere();
    rounds_ = rounds_of(samples, config, static_cast<size_t>(ranks_.mesh.data * batch_),
                        residence_ == Residence::kInTurn);
    decoders_ = decoders();
  }

  void make_videos() {
    load();
    for (size_t round = 0; round < rounds_.size(); ++round) {
      embed(round);
      if (!model_.has_transformer()) {
        job_.progress.begin("load transformer", 0);
        model_.load_transformer();
      }
      ranks_.world->meet();  // not all may have decoded, or loaded
      const auto& [first, count, texts] = rounds_[round];
      const at::Tensor latents = denoise_samples(first, count);  // [count, 16, F, h, w]
      if (first + count == samples_.size() && !model_.stays_open()) {
        model_.free_transformer();
      }
      for (size_t i = 0; i < count; ++i) {
        if (decoders_) {
          decode_sample(first + i, latents[static_cast<int64_t>(i)]);
        }
      }
    }
    ranks_.world->meet(/*cancellable=*/false);  // not all may have decoded
    model_.agree_to_go_on(job_);
  }

 private:
  int64_t tiles() const { return tiling_ ? tiling_->count(config_.height, config_.width) : 1; }
  at::ScalarType vae_dtype() const { return config_.vae_dtype(model_.compute().dtype); }

  void load() {
    job_.progress.begin("load", 0);
    if (decoders_) {
      model_.load_vae(vae_dtype());
    }
    if (residence_ == Residence::kAll) {
      model_.load_transformer();
    }
    const bool has_room = residence_ != Residence::kInTurn || !model_.has_transformer();
    if (ranks_.leads() && has_room && !missing_texts(0).empty()) {
      model_.load_text_encoder();
    }
  }

  // The round's texts that are not embedded yet.
  std::vector<std::string> missing_texts(size_t round) const {
    std::vector<std::string> missing = rounds_[round].texts;
    std::erase_if(missing, [&](const std::string& text) { return model_.is_embedded(text); });
    return missing;
  }

  // What the process with the least room can do. All ranks load sharded weights together, after the
  // encoder has gone: some may have no room for them beside it.
  Residence residence_everywhere() const {
    const ComputeOptions& compute = model_.compute();
    const int64_t height = tiling_ ? std::min(tiling_->size, config_.height) : config_.height;
    const int64_t width = tiling_ ? std::min(tiling_->size, config_.width) : config_.width;
    const int64_t decoding =
        vae_decode_bytes(model_.vae_config(), height, width, vae_dtype(), compute.device);
    const int64_t denoising =
        batch_ * denoising_bytes(model_.transformer_config(), size_, compute.dtype);
    const Residence own = ranks_.weights.alone()
                              ? residence_of(model_, std::max(decoding, denoising))
                              : Residence::kInTurn;
    const auto number = at::TensorOptions().dtype(at::kLong).device(compute.device);
    const at::Tensor order = at::full({1}, static_cast<int64_t>(own), number);
    return static_cast<Residence>(ranks_.world->all().all_max(order, "memory").item<int64_t>());
  }

  // The processes that decode: the first ones, as many as there are tiles, or rows of the latent if
  // frames are decoded whole. Nothing for the other processes.
  std::optional<ProcessGroup> decoders() const {
    const ProcessGroup& all = ranks_.world->all();
    const auto count =
        static_cast<int>(std::min<int64_t>(all.size(), tiles() > 1 ? tiles() : size_.height));
    return all.rank() < count ? std::optional(all.subgroup(every(0, count, 1))) : std::nullopt;
  }

  // The round's new texts, by the leader for all.
  void embed(size_t round) {
    const std::vector<std::string> missing = missing_texts(round);
    if (!missing.empty()) {
      if (residence_ == Residence::kInTurn) {
        model_.free_transformer();
      }
      if (ranks_.leads() && !model_.has_text_encoder()) {
        job_.progress.begin("load text encoder", 0);
        model_.load_text_encoder();
      }
      job_.progress.begin(stage_of("encode text", Stage::Kind::kEncodeText, rounds_[round].first,
                                   residence_ == Residence::kInTurn ? 1 : samples_.size()),
                          std::ssize(missing));
      model_.embed(missing, job_, [&](const std::string& text, int64_t tokens, int64_t read) {
        receiver_.prompt_cut(text, tokens, read);
      });
    }
    const auto later = rounds_.begin() + static_cast<int64_t>(round) + 1;
    const bool is_last =
        std::all_of(later, rounds_.end(), [](const Round& one) { return one.texts.empty(); });
    if (residence_ == Residence::kInTurn || (is_last && !model_.stays_open())) {
      model_.free_text_encoder();
    }
  }

  // Samples `first` to `first + count`, shared out among groups of processes.
  at::Tensor denoise_samples(size_t first, size_t count) {
    job_.progress.begin(stage_of("denoise", Stage::Kind::kDenoise, first, samples_.size()),
                        config_.steps);
    const int64_t groups = ranks_.mesh.data, all = static_cast<int64_t>(count);
    std::vector<int64_t> rows(groups);  // samples of each group
    for (int64_t group = 0; group < groups; ++group) {
      rows[group] = all / groups + (group < all % groups ? 1 : 0);
    }
    const auto before = rows.begin() + ranks_.video;
    const size_t own = first + std::accumulate(rows.begin(), before, int64_t{0});
    at::Tensor mine =
        at::empty({0, model_.vae_config().z_dim, size_.frames, size_.height, size_.width},
                  at::TensorOptions().device(model_.compute().device));
    if (*before > 0) {
      mine = denoise_batch(own, *before);  // [rows, 16, F, h, w]
    } else if (!ranks_.weights.alone()) {
      denoise_batch(first, 1);  // only to send its part of the weights
    } else {
      model_.stand_by(config_.sampler()->steps(), job_);
    }
    const at::Tensor latents = ranks_.videos.all_gather(mine, rows, "videos");
    if (!torch::isfinite(latents).all().item<bool>()) {
      throw RunError("the denoised latent holds NaN or infinite values");
    }
    return latents;
  }

  // Samples `first` to `first + count` as one batch -> [count, 16, F, h, w].
  at::Tensor denoise_batch(size_t first, int64_t count) {
    std::vector<std::string> prompts;
    std::vector<at::Tensor> noises;
    for (int64_t i = 0; i < count; ++i) {
      prompts.push_back(samples_[first + i].prompt);
      noises.push_back(noise_of(samples_[first + i]));
    }
    const auto watch = [&](int64_t done, const at::Tensor& estimate) {
      ranks_.world->journal().at_step(done);
      for (int64_t i = 0; ranks_.leads() && i < count; ++i) {
        if (receiver_.wants_preview(first + i, done)) {
          preview(first + i, done, estimate.narrow(0, i, 1).narrow(2, 0, 1));  // [1, 16, 1, h, w]
        }
      }
    };
    ranks_.world->journal().at_step(0);
    return model_.sample(prompts, torch::stack(noises), config_, job_, watch);
  }

  // latent [1, 16, 1, h, w]
  void preview(size_t index, int64_t done, const at::Tensor& latent) {
    try {
      model_.decode(
          latent, tiling_,
          [&](const at::Tensor& frame) {
            receiver_.preview(index, done, frame[0]);  // [3, 1, H, W]
          },
          [] {}, {}, job_);
    } catch (const c10::OutOfMemoryError&) {  // not a reason to lose the video
      warn("no preview: there was not enough memory for it");
    }
  }

  void decode_sample(size_t index, const at::Tensor& latent) {
    if (ranks_.leads()) {
      receiver_.latent(index, latent);
    }
    job_.progress.begin(stage_of(tiles() > 1 ? "decode in tiles" : "decode", Stage::Kind::kOther,
                                 index, samples_.size()),
                        tiles() * latent.size(1));
    ranks_.world->journal().at_decoding();
    model_.decode(
        latent.unsqueeze(0), tiling_,
        [&](const at::Tensor& frames) {  // [1, 3, n, H, W]
          receiver_.frames(index, frames[0]);
        },
        [&] { job_.progress.step(); }, *decoders_, job_);
    job_.progress.end();
    if (ranks_.leads()) {
      receiver_.finished(index);
    }
  }

  // [16, F, h, w]
  at::Tensor noise_of(const VideoSample& sample) const {
    return sample.noise.defined() ? sample.noise
                                  : initial_noise(sample.seed, model_.vae_config().z_dim,
                                                  size_.frames, size_.height, size_.width);
  }

  VideoModel& model_;
  const WorkRanks& ranks_;
  const GenerationConfig& config_;
  const std::vector<VideoSample>& samples_;
  VideoReceiver& receiver_;
  const JobControl& job_;
  int64_t batch_;
  LatentSize size_;
  std::vector<Round> rounds_;
  Residence residence_ = Residence::kInTurn;
  std::optional<VaeTiling> tiling_;
  std::optional<ProcessGroup> decoders_;  // nothing where this process does not decode
};

}  // namespace

std::optional<VaeTiling> vae_tiling_of(const ModelSource& source, const ComputeOptions& compute,
                                       const GenerationConfig& config, size_t num_samples,
                                       const ProcessGroup& all) {
  const at::ScalarType dtype = config.vae_dtype(compute.dtype);
  const int64_t free = free_memory(compute.device);
  int64_t left = free - source.bytes(ModelPart::kVae, dtype);
  if (num_samples > 1) {  // the transformer stays until the last one is denoised
    left -= source.device_bytes(ModelPart::kTransformer, compute);
  }
  left = std::max<int64_t>(left, 1);
  const auto number = at::TensorOptions().dtype(at::kLong).device(compute.device);
  const at::Tensor taken = at::full({1}, free == 0 ? 0 : -left, number);
  const int64_t least = -all.all_max(taken, "memory").item<int64_t>();  // 0 if unknown to any
  return resolve_vae_tiling(config.vae_tile, source.vae_config(), config.height, config.width,
                            dtype, compute.device, least);
}

void make_videos(VideoModel& model, const GenerationConfig& config,
                 const std::vector<VideoSample>& samples, VideoReceiver& receiver,
                 const JobControl& job, int64_t batch) {
  const torch::NoGradGuard no_grad;
  Run(model, config, samples, receiver, job, batch).make_videos();
}

void text_to_video(const ModelSource& source, const ComputeOptions& compute,
                   const GenerationConfig& config, const std::vector<VideoSample>& samples,
                   VideoReceiver& receiver, Progress& progress, const CancellationToken& cancel,
                   const WorkRanks& ranks, Spans* spans) {
  VideoModel model(source, compute, ranks, /*stays_open=*/false);
  make_videos(model, config, samples, receiver, {progress, cancel, spans});
}

}  // namespace ospnext
