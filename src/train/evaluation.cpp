#include "train/evaluation.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/number_check.h"
#include "core/torch/random.h"
#include "data/captions.h"
#include "pipeline/prompts.h"
#include "schedulers/flow_matching.h"
#include "train/vae_training.h"

namespace ospnext {
namespace {

// The parts of a model, all loaded at once.
struct Model {
  Tokenizer tokenizer;
  Umt5Encoder text_encoder;
  Transformer transformer;
  Vae vae;
  at::Device device;
};

Model load_model(const ModelFiles& files, const ComputeOptions& compute) {
  return {.tokenizer = load_tokenizer(files.require(ModelPart::kTokenizer)),
          .text_encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), compute),
          .transformer = load_transformer(files.require(ModelPart::kTransformer), compute),
          .vae = load_vae(files.require(ModelPart::kVae), compute),
          .device = compute.device};
}

// Videos of `captions`, sample i from the noise of seed + i. -> [B, 3, T, H, W] on the CPU
at::Tensor sample_videos(Model& model, const GenerationConfig& generation,
                         const std::vector<std::string>& captions, uint64_t seed,
                         const CancellationToken& cancel) {
  const auto batch = static_cast<int64_t>(captions.size());
  std::vector<std::string> texts = captions;
  texts.push_back(generation.negative_prompt);
  const at::Tensor embedded = encode_prompts(model.text_encoder, model.tokenizer, texts,
                                             model.transformer->config().text_len, cancel)
                                  .embeddings;  // [B + 1, T, D]
  const at::Tensor negative = embedded.narrow(0, batch, 1).expand({batch, -1, -1});
  const at::Tensor text = at::cat({embedded.narrow(0, 0, batch), negative});  // [2B, T, D]

  const LatentSize size = latent_size(generation, model.vae->config);
  std::vector<at::Tensor> noises;
  for (int64_t i = 0; i < batch; ++i) {
    noises.push_back(initial_noise(seed + static_cast<uint64_t>(i), model.vae->config.z_dim,
                                   size.frames, size.height, size.width));
  }
  at::Tensor latent = at::stack(noises).to(model.device);  // [B, z, F, h, w]
  const auto sampler = generation.sampler();
  for (int64_t step = 0; step < sampler->steps(); ++step) {
    cancel.check();
    const at::Tensor times =
        sampler->schedule().timesteps[step].expand({2 * batch}).to(model.device);
    const auto both = model.transformer->forward(at::cat({latent, latent}), text, times).chunk(2);
    latent =
        sampler->step(step, latent, guided_velocity(both[0], both[1], generation.guidance_scale));
  }
  std::vector<at::Tensor> pieces;
  model.vae->decode(
      latent, [&](const at::Tensor& frames) { pieces.push_back(frames.cpu()); }, &cancel);
  return at::cat(pieces, 2);
}

// What every clip of `videos` [B, 3, T, H, W] shows, on all cores.
std::vector<MeasuredClip> measure_all(const at::Tensor& videos, size_t num_objects) {
  std::vector<MeasuredClip> measured(static_cast<size_t>(videos.size(0)));
  at::parallel_for(0, videos.size(0), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      measured[static_cast<size_t>(i)] = measure_clip(videos[i], static_cast<int64_t>(num_objects));
    }
  });
  return measured;
}

void add_all(EvaluationRow& row, const std::vector<ClipSpec>& clips,
             const std::vector<MeasuredClip>& measured) {
  for (size_t i = 0; i < clips.size(); ++i) {
    row.add(clips[i], measured[i]);
  }
}

// One kind of clips to sample.
struct Task {
  std::string name;
  ClipSplit split;
  size_t num_objects;
};

std::vector<ClipSpec> task_clips(const Task& task, const GenerationConfig& generation,
                                 const EvaluationConfig& config, int64_t first, int64_t count) {
  const ClipOptions options{.height = generation.height,
                            .width = generation.width,
                            .num_frames = generation.num_frames,
                            .two_objects = task.num_objects == 2 ? 1.0 : 0.0};
  const uint64_t seed = derived_seed(config.seed, "evaluation " + task.name);
  std::vector<ClipSpec> clips;
  for (int64_t i = 0; i < count; ++i) {
    clips.push_back(sample_clip(seed, first + i, task.split, options));
  }
  return clips;
}

}  // namespace

void EvaluationConfig::check() const {
  constexpr int64_t kMost = 10'000'000;
  check_range("--clips", clips, int64_t{1}, kMost);
  check_range("--two-objects", two_objects, int64_t{0}, kMost);
  check_range("--vae-clips", vae_clips, int64_t{0}, kMost);
  check_range("--batch-size", batch_size, int64_t{1}, kMost);
}

void EvaluationRow::add(const ClipSpec& clip, const MeasuredClip& measured) {
  const AttributeMatch match = compare(clip, measured);
  const auto all_objects = [&](bool AttributeMatch::Object::*attribute) {
    return std::ranges::all_of(match.objects,
                               [&](const auto& object) { return object.*attribute; });
  };
  using Object = AttributeMatch::Object;
  std::array<bool, kAttributes.size()> now = {
      match.background && match.pattern, all_objects(&Object::colour), all_objects(&Object::size),
      all_objects(&Object::shape),       all_objects(&Object::motion), false};
  now.back() = std::all_of(now.begin(), now.end() - 1, [](bool right) { return right; });
  for (size_t i = 0; i < now.size(); ++i) {
    right[i] += now[i] ? 1 : 0;
  }
  ++clips;
}

void evaluate_prompt_following(const ModelFiles& files, const ComputeOptions& compute,
                               const GenerationConfig& generation, const EvaluationConfig& config,
                               const std::function<void(const EvaluationRow&)>& on_row,
                               Progress& progress, const CancellationToken& cancel) {
  config.check();
  const at::NoGradGuard no_grad;
  Model model = load_model(files, compute);
  generation.check(model.vae->config);
  std::vector<Task> tasks = {{"seen", ClipSplit::kSeen, 1}, {"held out", ClipSplit::kHeldOut, 1}};
  if (config.two_objects > 0) {
    tasks.push_back({"two objects, seen", ClipSplit::kSeen, 2});
    tasks.push_back({"two objects, held out", ClipSplit::kHeldOut, 2});
  }
  EvaluationRow rendered{.name = "rendered clips"};
  EvaluationRow reconstructed{.name = "rendered, through the VAE"};
  EvaluationRow shuffled{.name = "shuffled captions"};
  for (const Task& task : tasks) {
    EvaluationRow row{.name = task.name};
    const int64_t count = task.num_objects == 2 ? config.two_objects : config.clips;
    progress.begin(task.name, count);
    for (int64_t first = 0; first < count; first += config.batch_size) {
      const int64_t batch = std::min(config.batch_size, count - first);
      const std::vector<ClipSpec> clips = task_clips(task, generation, config, first, batch);
      std::vector<std::string> captions;
      for (int64_t i = 0; i < batch; ++i) {
        const ClipSpec& clip = clips[static_cast<size_t>(i)];
        captions.push_back(caption(clip, (first + i) % num_caption_forms(clip.objects.size())));
      }
      const uint64_t seed = derived_seed(config.seed, "evaluation noise " + task.name);
      const at::Tensor videos =
          sample_videos(model, generation, captions, seed + static_cast<uint64_t>(first), cancel);
      const std::vector<MeasuredClip> measured = measure_all(videos, task.num_objects);
      add_all(row, clips, measured);
      if (task.num_objects == 1) {
        add_all(shuffled, task_clips(task, generation, config, first + 1, batch), measured);
        const at::Tensor drawn = render_clips(clips, model.device);
        add_all(rendered, clips, measure_all(drawn.cpu(), 1));
        const at::Tensor decoded = reconstruct(model.vae, drawn, compute.dtype);
        add_all(reconstructed, clips, measure_all(decoded.cpu(), 1));
      }
      for (int64_t i = 0; i < batch; ++i) {
        progress.step();
      }
    }
    progress.end();
    on_row(row);
  }
  on_row(shuffled);
  on_row(rendered);
  on_row(reconstructed);
}

std::array<double, 2> wilson_interval(int64_t right, int64_t total) {
  constexpr double kQuantile = 1.959963984540054;  // of the normal distribution, at 97.5 %
  const auto n = static_cast<double>(total);
  const double share = static_cast<double>(right) / n;
  const double z2 = kQuantile * kQuantile;
  const double centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half =
      kQuantile * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  return {std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

std::string evaluation_header() {
  std::string names = "| captions | clips |";
  std::string rule = "| --- | --- |";
  for (const char* attribute : kAttributes) {
    names += std::string(" ") + attribute + " % |";
    rule += " --- |";
  }
  return names + "\n" + rule + "\n";
}

std::string evaluation_line(const EvaluationRow& row) {
  std::string line = "| " + row.name + " | " + std::to_string(row.clips) + " |";
  for (const int64_t right : row.right) {
    const auto [low, high] = wilson_interval(right, row.clips);
    const double share = static_cast<double>(right) / static_cast<double>(row.clips);
    char cell[64];
    std::snprintf(cell, sizeof cell, " %.1f (%.1f–%.1f) |", 100 * share, 100 * low, 100 * high);
    line += cell;
  }
  return line + "\n";
}

}  // namespace ospnext
