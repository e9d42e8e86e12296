#include "engine/text_to_video.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "core/torch/cuda_graph.h"
#include "engine/memory.h"
#include "engine/text_embeddings.h"
#include "schedulers/flow_matching.h"

namespace ospnext {
namespace {

// Tokens times width up to which the kernels of a step are recorded. Below it, launching them takes
// longer than running them. Above it, a recording would keep too much memory.
constexpr int64_t kMostRecorded = int64_t{1} << 24;

// Which parts of a model are in memory at the same time.
enum class Residence {
  kAll,         // all from the beginning
  kEncoderToo,  // the encoder stays beside the others until the last text is embedded
  kInTurn,      // the encoder goes before the transformer comes
};

// The most that has room on this device beside `working` bytes. All parts are loaded at the
// beginning if they take less than a quarter of the free memory.
Residence residence_of(const ModelSource& source, const ComputeOptions& compute, int64_t working) {
  int64_t bytes = 0;
  for (const ModelPart part : {ModelPart::kTextEncoder, ModelPart::kTransformer, ModelPart::kVae}) {
    bytes += source.bytes(part, compute.dtype);
  }
  const int64_t free = free_memory(compute.device);
  if (bytes + working > free - free / 10) {
    return Residence::kInTurn;
  }
  return bytes < free / 4 ? Residence::kAll : Residence::kEncoderToo;
}

// Bytes that a pass of the transformer needs beside its weights: some 10 tensors of all tokens were
// measured for the 14B model at 720P.
int64_t denoising_bytes(const TransformerConfig& transformer, const LatentSize& latent,
                        at::ScalarType dtype) {
  constexpr int64_t kTensors = 16;
  return kTensors * token_grid(latent).tokens() * transformer.dim *
         static_cast<int64_t>(at::elementSize(dtype));
}

void check_parts_match(const TransformerConfig& transformer, const Umt5Config& text_encoder,
                       const VaeConfig& vae) {
  if (transformer.text_dim != text_encoder.d_model) {
    throw InputError("the transformer takes text of width " + std::to_string(transformer.text_dim) +
                     ", but the text encoder gives " + std::to_string(text_encoder.d_model) +
                     ": they do not belong together");
  }
  if (transformer.in_dim != vae.z_dim || transformer.out_dim != vae.z_dim) {
    throw InputError("the transformer's latent has " + std::to_string(transformer.in_dim) +
                     " channels, but the VAE's " + std::to_string(vae.z_dim) +
                     ": they do not belong together");
  }
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

// One run of the pipeline. Its methods are the stages, in the order of their calls.
class Run {
 public:
  Run(const ModelSource& source, const ComputeOptions& compute, const GenerationConfig& config,
      const std::vector<VideoSample>& samples, Progress& progress, const CancellationToken& cancel,
      const WorkRanks& ranks, Spans* spans)
      : source_(source),
        compute_(compute),
        config_(config),
        samples_(samples),
        progress_(progress),
        cancel_(cancel),
        ranks_(ranks),
        spans_(spans),
        transformer_config_(source.transformer_config()),
        vae_config_(source.vae_config()),
        texts_(transformer_config_.text_len) {
    config_.check(vae_config_);
    tiling_ = vae_tiling_of(source, compute, config, samples.size(), ranks.world->all());
    const LatentSize size = latent_size(config, vae_config_);
    residence_ = residence_everywhere(size);
    rounds_ = rounds_of(samples, config, static_cast<size_t>(ranks.mesh.data),
                        residence_ == Residence::kInTurn);
    decoders_ = decoders(size.height);
    record_ = config.cuda_graph && spans == nullptr && compute.device.is_cuda() &&
              ranks.world->all().alone() &&
              size.frames * size.height * size.width / (kPatchRows * kPatchColumns) *
                      transformer_config_.dim <=
                  kMostRecorded;
    if (record_) {
      stream_.emplace(compute.device);
    }
    check_parts_match(transformer_config_, source.text_encoder_config(), vae_config_);
  }

  void load() {
    progress_.begin("load", 0);
    if (decoders_) {
      vae_ = source_.vae({compute_.device, config_.vae_dtype(compute_.dtype)});
    }
    if (residence_ == Residence::kAll) {
      load_denoiser();
    }
    if (ranks_.leads()) {
      texts_.load_encoder(source_, compute_);
    }
  }

  void make_videos(VideoReceiver& receiver) {
    for (size_t round = 0; round < rounds_.size(); ++round) {
      embed(round, receiver);
      if (!transformer_) {
        progress_.begin("load transformer", 0);
        load_denoiser();
      }
      ranks_.world->meet();  // not all may have decoded, or loaded
      const auto& [first, count, texts] = rounds_[round];
      const at::Tensor latents = denoise_samples(first, count, receiver);  // [count, 16, F, h, w]
      if (first + count == samples_.size()) {
        transformer_ = nullptr;
      }
      for (size_t i = 0; decoders_ && i < count; ++i) {
        decode_sample(first + i, latents[static_cast<int64_t>(i)], receiver);
      }
    }
  }

 private:
  int64_t tiles() const { return tiling_ ? tiling_->count(config_.height, config_.width) : 1; }

  // What the process with the least room can do. All ranks load sharded weights together, after the
  // encoder has gone: some may have no room for them beside it.
  Residence residence_everywhere(const LatentSize& latent) const {
    const int64_t height = tiling_ ? std::min(tiling_->size, config_.height) : config_.height;
    const int64_t width = tiling_ ? std::min(tiling_->size, config_.width) : config_.width;
    const int64_t decoding = vae_decode_bytes(vae_config_, height, width,
                                              config_.vae_dtype(compute_.dtype), compute_.device);
    const int64_t denoising = denoising_bytes(transformer_config_, latent, compute_.dtype);
    const Residence own = ranks_.weights.alone()
                              ? residence_of(source_, compute_, std::max(decoding, denoising))
                              : Residence::kInTurn;
    const auto number = at::TensorOptions().dtype(at::kLong).device(compute_.device);
    const at::Tensor order = at::full({1}, static_cast<int64_t>(own), number);
    return static_cast<Residence>(ranks_.world->all().all_max(order, "memory").item<int64_t>());
  }

  // The processes that decode: the first ones, as many as there are tiles, or rows of the latent if
  // frames are decoded whole. Nothing for the other processes.
  std::optional<ProcessGroup> decoders(int64_t latent_rows) const {
    const ProcessGroup& all = ranks_.world->all();
    const auto count =
        static_cast<int>(std::min<int64_t>(all.size(), tiles() > 1 ? tiles() : latent_rows));
    return all.rank() < count ? std::optional(all.subgroup(every(0, count, 1))) : std::nullopt;
  }

  void load_denoiser() {
    transformer_ =
        source_.transformer(compute_, {ranks_.weights, [this] { ranks_.world->meet(); }});
    transformer_->set_ranks(ranks_.sequence);
  }

  // The round's new texts, by the leader for all. The encoder goes when no later round needs it.
  void embed(size_t round, VideoReceiver& receiver) {
    const auto& [first, count, texts] = rounds_[round];
    if (texts.empty()) {
      return;
    }
    progress_.begin(stage_of("encode text", Stage::Kind::kEncodeText, first,
                             residence_ == Residence::kInTurn ? 1 : samples_.size()),
                    std::ssize(texts));
    if (ranks_.leads()) {
      encode(texts, receiver);
    }
    ranks_.world->meet();
    for (const std::string& text : texts) {
      const std::vector<at::Tensor> rows =
          ranks_.leads() ? std::vector{texts_.rows(text)} : std::vector<at::Tensor>();
      texts_.keep(text, share(rows, ranks_.world->all(), compute_.device).front());
    }
    const auto later = rounds_.begin() + static_cast<int64_t>(round) + 1;
    if (std::all_of(later, rounds_.end(), [](const Round& one) { return one.texts.empty(); })) {
      texts_.free_encoder();
    }
  }

  void encode(const std::vector<std::string>& texts, VideoReceiver& receiver) {
    const Span span(spans_, SpanKind::kBlock, "text encoder");
    for (const std::string& text : texts) {
      cancel_.check();
      const int64_t tokens = texts_.embed(text);
      if (is_cut(tokens, transformer_config_.text_len)) {
        receiver.prompt_cut(text, tokens, transformer_config_.text_len);
      }
      progress_.step();
    }
  }

  // Samples `first` to `first + count`, each by its own group of processes.
  at::Tensor denoise_samples(size_t first, size_t count, VideoReceiver& receiver) {
    progress_.begin(stage_of("denoise", Stage::Kind::kDenoise, first, samples_.size()),
                    config_.steps);
    const LatentSize size = latent_size(config_, vae_config_);
    const auto video = static_cast<size_t>(ranks_.video);
    at::Tensor mine = at::empty({0, vae_config_.z_dim, size.frames, size.height, size.width},
                                at::TensorOptions().device(compute_.device));
    if (video < count) {
      mine = denoise_sample(first + video, receiver).unsqueeze(0);  // [1, 16, F, h, w]
    } else if (!ranks_.weights.alone()) {
      denoise_sample(first, receiver);  // only to send its part of the weights
    }
    std::vector<int64_t> rows(ranks_.mesh.data, 0);
    std::fill_n(rows.begin(), count, 1);
    const at::Tensor latents = ranks_.videos.all_gather(mine, rows, "videos");
    if (!torch::isfinite(latents).all().item<bool>()) {
      throw RunError("the denoised latent holds NaN or infinite values");
    }
    return latents;
  }

  at::Tensor denoise_sample(size_t index, VideoReceiver& receiver) {
    const VideoSample& sample = samples_[index];
    const at::Tensor negative = config_.guidance_scale > 1
                                    ? texts_.rows(config_.negative_prompt).to(compute_.device)
                                    : at::Tensor();
    Span keys(spans_, SpanKind::kBlock, "text keys");
    const Guidance guidance =
        guide(transformer_, texts_.rows(sample.prompt).to(compute_.device), negative,
              config_.guidance_scale, config_.batch_guidance, ranks_.passes);
    keys.end();
    const auto sampler = config_.sampler();
    const auto watch = [&](int64_t done, const at::Tensor& estimate) {
      ranks_.world->journal().at_step(done);
      if (ranks_.leads() && receiver.wants_preview(index, done)) {
        const at::Tensor first = estimate.unsqueeze(0).narrow(2, 0, 1);  // [1, 16, 1, h, w]
        decode(
            first,
            [&](const at::Tensor& frame) {
              receiver.preview(index, done, frame[0]);  // [3, 1, H, W]
            },
            [] {}, {});
      }
    };
    ranks_.world->journal().at_step(0);
    return denoise(transformer_, *sampler, noise_of(sample), guidance, record_, progress_, cancel_,
                   watch, spans_);
  }

  void decode_sample(size_t index, const at::Tensor& latent, VideoReceiver& receiver) {
    if (ranks_.leads()) {
      receiver.latent(index, latent);
    }
    progress_.begin(stage_of(tiles() > 1 ? "decode in tiles" : "decode", Stage::Kind::kOther, index,
                             samples_.size()),
                    tiles() * latent.size(1));
    ranks_.world->journal().at_decoding();
    decode(
        latent.unsqueeze(0),
        [&](const at::Tensor& frames) {  // [1, 3, n, H, W]
          receiver.frames(index, frames[0]);
        },
        [&] { progress_.step(); }, *decoders_);
    progress_.end();
    if (ranks_.leads()) {
      receiver.finished(index);
    }
  }

  // Decodes whole frames or tiles, divided among `ranks`. The first of them calls `on_piece` after
  // each latent frame (of each tile).
  void decode(const at::Tensor& latent, const std::function<void(const at::Tensor&)>& sink,
              const std::function<void()>& on_piece, const ProcessGroup& ranks) {
    const Span span(spans_, SpanKind::kBlock, "VAE decode");
    if (tiling_) {
      decode_tiled(vae_, latent, *tiling_, sink, on_piece, &cancel_, kTiledSpan, ranks);
      return;
    }
    const auto whole = [&](const at::Tensor& frames) {
      sink(frames);
      on_piece();
    };
    vae_->decode(latent, whole, &cancel_, vae::Strips(ranks, latent.size(3)));
  }

  at::Tensor noise_of(const VideoSample& sample) const {
    const LatentSize size = latent_size(config_, vae_config_);
    return sample.noise.defined() ? sample.noise
                                  : initial_noise(sample.seed, vae_config_.z_dim, size.frames,
                                                  size.height, size.width);
  }

  const ModelSource& source_;
  const ComputeOptions& compute_;
  const GenerationConfig& config_;
  const std::vector<VideoSample>& samples_;
  Progress& progress_;
  const CancellationToken& cancel_;
  const WorkRanks& ranks_;
  Spans* const spans_;
  TransformerConfig transformer_config_;
  VaeConfig vae_config_;
  std::vector<Round> rounds_;
  TextEmbeddings texts_;
  Residence residence_ = Residence::kInTurn;
  bool record_ = false;
  std::optional<SideStream> stream_;
  std::optional<VaeTiling> tiling_;
  std::optional<ProcessGroup> decoders_;  // nothing where this process does not decode
  Vae vae_{nullptr};
  Transformer transformer_{nullptr};
};

}  // namespace

std::optional<VaeTiling> vae_tiling_of(const ModelSource& source, const ComputeOptions& compute,
                                       const GenerationConfig& config, size_t num_samples,
                                       const ProcessGroup& all) {
  const at::ScalarType dtype = config.vae_dtype(compute.dtype);
  const int64_t free = free_memory(compute.device);
  int64_t left = free - source.bytes(ModelPart::kVae, dtype);
  if (num_samples > 1) {  // the transformer stays until the last one is denoised
    left -= source.bytes(ModelPart::kTransformer, compute.dtype);
  }
  left = std::max<int64_t>(left, 1);
  const auto number = at::TensorOptions().dtype(at::kLong).device(compute.device);
  const at::Tensor taken = at::full({1}, free == 0 ? 0 : -left, number);
  const int64_t least = -all.all_max(taken, "memory").item<int64_t>();  // 0 if unknown to any
  return resolve_vae_tiling(config.vae_tile, source.vae_config(), config.height, config.width,
                            dtype, compute.device, least);
}

void text_to_video(const ModelSource& source, const ComputeOptions& compute,
                   const GenerationConfig& config, const std::vector<VideoSample>& samples,
                   VideoReceiver& receiver, Progress& progress, const CancellationToken& cancel,
                   const WorkRanks& ranks, Spans* spans) {
  const torch::NoGradGuard no_grad;
  Run run(source, compute, config, samples, progress, cancel, ranks, spans);
  run.load();
  run.make_videos(receiver);
}

Guidance guide(Transformer& transformer, const at::Tensor& text, const at::Tensor& negative_text,
               double scale, bool batched, const ProcessGroup& passes) {
  const torch::NoGradGuard no_grad;
  const auto embed = [&](const std::vector<at::Tensor>& texts) {            // B x [n, D]
    const at::Tensor rows = at::pad_sequence(texts, /*batch_first=*/true);  // [B, n, D]
    return transformer->embed_text(pad_text(rows, transformer->config().text_len));
  };
  if (!negative_text.defined()) {
    return {.text = embed({text}), .negative_text = {}, .scale = scale};
  }
  if (passes.size() > 1) {
    const at::Tensor& own = passes.rank() == 0 ? text : negative_text;
    return {.text = embed({own}), .negative_text = {}, .scale = scale, .passes = passes};
  }
  if (batched) {
    return {
        .text = embed({text, negative_text}), .negative_text = {}, .scale = scale, .batched = true};
  }
  return {.text = embed({text}), .negative_text = embed({negative_text}), .scale = scale};
}

at::Tensor predict_velocity(Transformer& transformer, const at::Tensor& latent,
                            const at::Tensor& timestep, const Guidance& guidance,
                            const CancellationToken& cancel, Spans* spans) {
  const int64_t B = guidance.batched ? 2 : 1;
  Span embed(spans, SpanKind::kBlock, "time");
  const TimeVectors time = transformer->embed_time(timestep.expand({B}));
  embed.end();
  const auto run = [&](const TextVectors& text) {  // -> [B, 16, F, h, w]
    const Span pass(spans, SpanKind::kPass, "pass");
    return transformer->forward(latent.expand({B, -1, -1, -1, -1}), text, time, spans);
  };
  const at::Tensor conditional = run(guidance.text);
  if (guidance.passes.size() > 1) {
    const at::Tensor both = guidance.passes.all_gather(conditional, {1, 1}, "guidance");
    return guided_velocity(both[0], both[1], guidance.scale);
  }
  if (guidance.batched) {
    return guided_velocity(conditional[0], conditional[1], guidance.scale);
  }
  if (guidance.negative_text.empty()) {
    return conditional[0];
  }
  cancel.check();
  return guided_velocity(conditional[0], run(guidance.negative_text)[0], guidance.scale);
}

at::Tensor denoise(Transformer& transformer, Sampler& sampler, const at::Tensor& noise,
                   const Guidance& guidance, bool record, Progress& progress,
                   const CancellationToken& cancel, const EstimateWatcher& watch, Spans* spans) {
  const torch::NoGradGuard no_grad;
  at::Tensor latent = noise.to(guidance.text.front().key.device(), torch::kFloat32);
  const at::Tensor timesteps = sampler.schedule().timesteps.to(latent.device(), torch::kFloat32);
  const CancellationToken never;  // a recording must not be broken off
  RecordedFunction predict(
      [&](const std::vector<at::Tensor>& inputs) {
        return predict_velocity(transformer, inputs[0], inputs[1], guidance,
                                record ? never : cancel, spans);
      },
      record);
  for (int64_t i = 0; i < sampler.steps(); ++i) {
    cancel.check();
    Span step(spans, SpanKind::kStep, "step", i + 1);
    const at::Tensor predicted = predict({latent, timesteps.narrow(0, i, 1)});
    const at::Tensor velocity = record ? predicted.clone() : predicted;  // samplers remember it
    const at::Tensor before = latent;
    latent = sampler.step(i, before, velocity);
    if (watch) {
      watch(i + 1, before - sampler.schedule().sigmas[i].item<float>() * velocity);
    }
    if (latent.is_cuda()) {
      torch::cuda::synchronize(latent.device().index());  // else steps would only be queued
    }
    step.end();
    if (spans != nullptr) {
      spans->settle();
    }
    progress.step();
  }
  return latent;
}

}  // namespace ospnext
