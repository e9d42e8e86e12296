#include "train/evaluation.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <optional>

#include "core/number_check.h"
#include "core/torch/random.h"
#include "data/tiny_world/captions.h"
#include "engine/video_model.h"
#include "schedulers/flow_matching.h"
#include "train/vae_training.h"

namespace ospnext {
namespace {

// A model with all parts loaded.
struct Model {
  ModelFileSource source;
  VideoModel parts;

  Model(const ModelFiles& files, const ComputeOptions& compute)
      : source(files), parts(source, compute) {
    parts.load_text_encoder();
    parts.load_transformer();
    parts.load_vae(compute.dtype);
  }
  at::Device device() const { return parts.compute().device; }
};

// Samples latents for B captions; sample i starts from the noise of seed + i. -> [B, z, F, h, w]
at::Tensor sample_latents(Model& model, GenerationConfig generation,
                          const std::vector<std::string>& captions, uint64_t seed,
                          const CancellationToken& cancel) {
  generation.batch_guidance = true;
  Progress silent(nullptr, false);
  const JobControl job{silent, cancel};
  std::vector<std::string> texts = captions;
  texts.push_back(generation.negative_prompt);
  model.parts.forget_texts_if_many();
  model.parts.embed(texts, job);
  const VaeConfig& vae = model.parts.vae_config();
  const LatentSize size = latent_size(generation, vae);
  std::vector<at::Tensor> noises;
  for (size_t i = 0; i < captions.size(); ++i) {
    noises.push_back(initial_noise(seed + i, vae.z_dim, size.frames, size.height, size.width));
  }
  return model.parts.sample(captions, at::stack(noises), generation, job);  // [B, z, F, h, w]
}

// latent [B, z, F, h, w] -> [B, 3, T, H, W] on the CPU, T frames of H x W pixels
at::Tensor decode_videos(Model& model, const at::Tensor& latent, const CancellationToken& cancel) {
  std::vector<at::Tensor> pieces;
  Progress silent(nullptr, false);
  model.parts.decode(
      latent, std::nullopt, [&](const at::Tensor& frames) { pieces.push_back(frames.cpu()); },
      [] {}, {}, {silent, cancel});
  return at::cat(pieces, 2);
}

// Runs work(), waits for the device, adds the elapsed time to `seconds`, and returns the result.
template <class Work>
auto timed(double& seconds, at::Device device, Work&& work) {
  const auto begin = std::chrono::steady_clock::now();
  auto result = work();
  if (device.is_cuda()) {
    torch::cuda::synchronize(device.index());
  }
  seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

// Measures each clip of videos [B, 3, T, H, W] on all cores.
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
                                 uint64_t evaluation_seed, int64_t first, int64_t count) {
  const ClipOptions options{.height = generation.height,
                            .width = generation.width,
                            .num_frames = generation.num_frames,
                            .two_objects = task.num_objects == 2 ? 1.0 : 0.0};
  const uint64_t seed = derived_seed(evaluation_seed, "evaluation " + task.name);
  std::vector<ClipSpec> clips;
  for (int64_t i = 0; i < count; ++i) {
    clips.push_back(sample_clip(seed, first + i, task.split, options));
  }
  return clips;
}

// Some clips of a task and their captions; clip i starts from the noise of noise_seed + i.
struct TaskBatch {
  std::vector<ClipSpec> clips;
  std::vector<std::string> captions;
  uint64_t noise_seed;
};

TaskBatch task_batch(const Task& task, const GenerationConfig& generation, uint64_t evaluation_seed,
                     int64_t first, int64_t count) {
  TaskBatch batch{.clips = task_clips(task, generation, evaluation_seed, first, count),
                  .captions = {},
                  .noise_seed = derived_seed(evaluation_seed, "evaluation noise " + task.name) +
                                static_cast<uint64_t>(first)};
  for (int64_t i = 0; i < count; ++i) {
    const ClipSpec& clip = batch.clips[static_cast<size_t>(i)];
    batch.captions.push_back(caption(clip, (first + i) % num_caption_forms(clip.objects.size())));
  }
  return batch;
}

// The kinds of clips to sample, in the order of their rows.
std::vector<Task> tasks_of(const EvaluationConfig& config) {
  std::vector<Task> tasks = {{"seen", ClipSplit::kSeen, 1}, {"held out", ClipSplit::kHeldOut, 1}};
  if (config.two_objects > 0) {
    tasks.push_back({"two objects, seen", ClipSplit::kSeen, 2});
    tasks.push_back({"two objects, held out", ClipSplit::kHeldOut, 2});
  }
  return tasks;
}

// Samples a clip for each caption of a batch, and measures it.
std::vector<MeasuredClip> sample_and_measure(Model& model, const GenerationConfig& generation,
                                             const TaskBatch& batch, size_t num_objects,
                                             EvaluationSeconds& seconds,
                                             const CancellationToken& cancel) {
  const at::Tensor latents = timed(seconds.sampling, model.device(), [&] {
    return sample_latents(model, generation, batch.captions, batch.noise_seed, cancel);
  });
  const at::Tensor videos = timed(seconds.decoding, model.device(),
                                  [&] { return decode_videos(model, latents, cancel); });
  return timed(seconds.measuring, at::kCPU, [&] { return measure_all(videos, num_objects); });
}

void report_clips(const EvaluationWatcher& watcher, const Task& task, const TaskBatch& batch,
                  const std::vector<MeasuredClip>& measured) {
  for (size_t i = 0; i < batch.clips.size(); ++i) {
    watcher.on_clip({.row = task.name,
                     .caption = batch.captions[i],
                     .seed = batch.noise_seed + i,
                     .asked = batch.clips[i],
                     .measured = measured[i]});
  }
}

// Rendered clips before and after the VAE: what the measurement, and the VAE, allow at most.
struct RenderedRows {
  EvaluationRow rendered, reconstructed;
};

// Renders clips with `num_objects` objects each, and measures them before and after the VAE.
void add_rendered(RenderedRows& rows, const std::vector<ClipSpec>& clips, size_t num_objects,
                  Model& model, at::ScalarType precision, EvaluationSeconds& seconds) {
  const at::Tensor drawn =
      timed(seconds.drawing, model.device(), [&] { return render_clips(clips, model.device()); });
  const at::Tensor decoded = timed(seconds.drawing, model.device(), [&] {
    return reconstruct(model.parts.vae(), drawn, precision);
  });
  const auto read = [&](const at::Tensor& frames) {
    return timed(seconds.measuring, at::kCPU,
                 [&] { return measure_all(frames.cpu(), num_objects); });
  };
  add_all(rows.rendered, clips, read(drawn));
  add_all(rows.reconstructed, clips, read(decoded));
}

using Verdict = std::array<bool, kAttributes.size()>;

// For each of kAttributes: whether a clip shows what was asked for.
Verdict verdict(const ClipSpec& asked, const MeasuredClip& measured) {
  const AttributeMatch match = compare(asked, measured);
  const auto all_objects = [&](bool AttributeMatch::Object::*attribute) {
    return std::ranges::all_of(match.objects,
                               [&](const auto& object) { return object.*attribute; });
  };
  using Object = AttributeMatch::Object;
  Verdict now = {match.background && match.pattern, all_objects(&Object::colour),
                 all_objects(&Object::size),        all_objects(&Object::shape),
                 all_objects(&Object::motion),      false};
  now.back() = std::all_of(now.begin(), now.end() - 1, [](bool right) { return right; });
  return now;
}

// "circle", or "?" where nothing was found.
template <class Word>
std::string found(const std::optional<Word>& value) {
  return value ? std::string(word(*value)) : "?";
}

}  // namespace

void EvaluationConfig::check() const {
  constexpr int64_t kMost = 10'000'000;
  check_range("`clips`", clips, int64_t{1}, kMost);
  check_range("`two_objects`", two_objects, int64_t{0}, kMost);
  check_range("`rendered`", rendered, int64_t{0}, kMost);
  check_range("`vae_clips`", vae_clips, int64_t{0}, kMost);
  check_range("`batch_size`", batch_size, int64_t{1}, kMost);
}

void EvaluationRow::add(const ClipSpec& clip, const MeasuredClip& measured) {
  const Verdict now = verdict(clip, measured);
  for (size_t i = 0; i < now.size(); ++i) {
    right[i] += now[i] ? 1 : 0;
  }
  ++clips;
}

EvaluationSeconds evaluate_prompt_following(const ModelFiles& files, const ComputeOptions& compute,
                                            const GenerationConfig& generation,
                                            const EvaluationConfig& config,
                                            const EvaluationWatcher& watcher, Progress& progress,
                                            const CancellationToken& cancel) {
  config.check();
  const at::NoGradGuard no_grad;
  Model model(files, compute);
  generation.check(model.parts.vae_config());
  EvaluationSeconds seconds;
  EvaluationRow shuffled{.name = "shuffled captions"};
  RenderedRows one{{.name = "rendered clips"}, {.name = "rendered, through the VAE"}};
  RenderedRows two{{.name = "two objects, rendered"}, {.name = "two objects, through the VAE"}};
  for (const Task& task : tasks_of(config)) {
    EvaluationRow row{.name = task.name};
    const int64_t count = task.num_objects == 2 ? config.two_objects : config.clips;
    progress.begin(task.name, count);
    for (int64_t first = 0; first < count; first += config.batch_size) {
      const int64_t batch = std::min(config.batch_size, count - first);
      const TaskBatch asked = task_batch(task, generation, config.seed, first, batch);
      const std::vector<MeasuredClip> measured =
          sample_and_measure(model, generation, asked, task.num_objects, seconds, cancel);
      add_all(row, asked.clips, measured);
      report_clips(watcher, task, asked, measured);
      if (task.num_objects == 1) {
        add_all(shuffled, task_clips(task, generation, config.seed, first + 1, batch), measured);
      }
      const auto begin = asked.clips.begin();
      const std::vector<ClipSpec> some(
          begin, begin + std::clamp<int64_t>(config.rendered - first, 0, batch));
      if (!some.empty()) {
        add_rendered(task.num_objects == 1 ? one : two, some, task.num_objects, model,
                     compute.dtype, seconds);
      }
      for (int64_t i = 0; i < batch; ++i) {
        progress.step();
      }
    }
    progress.end();
    watcher.on_row(row);
  }
  watcher.on_row(shuffled);
  for (const RenderedRows* rows : {&one, &two}) {
    if (rows->rendered.clips > 0) {
      watcher.on_row(rows->rendered);
      watcher.on_row(rows->reconstructed);
    }
  }
  return seconds;
}

std::vector<double> compare_precisions(const ModelFiles& files, const ComputeOptions& compute,
                                       const ComputeOptions& reference,
                                       const GenerationConfig& generation, int64_t clips,
                                       int64_t batch_size, uint64_t seed, Progress& progress,
                                       const CancellationToken& cancel) {
  const at::NoGradGuard no_grad;
  Model ours(files, compute), theirs(files, reference);
  generation.check(ours.parts.vae_config());
  const Task task{"seen", ClipSplit::kSeen, 1};
  std::vector<double> all;
  progress.begin("comparing", clips);
  for (int64_t first = 0; first < clips; first += batch_size) {
    const int64_t batch = std::min(batch_size, clips - first);
    const TaskBatch asked = task_batch(task, generation, seed, first, batch);
    const auto videos = [&](Model& model) {  // [B, 3, T, H, W]
      const at::Tensor latents =
          sample_latents(model, generation, asked.captions, asked.noise_seed, cancel);
      return decode_videos(model, latents, cancel);
    };
    const at::Tensor squared =
        (videos(ours) - videos(theirs)).square().to(at::kDouble).flatten(1).mean(1);  // [B]
    constexpr double kPeak = 4, kLeast = kPeak / 1e10;  // largest and smallest squared difference
    const at::Tensor decibels = 10 * (kPeak / squared.clamp_min(kLeast)).log10();
    for (int64_t i = 0; i < batch; ++i) {
      all.push_back(decibels[i].item<double>());
      progress.step();
    }
  }
  progress.end();
  return all;
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

std::string details_header() {
  std::string line = "captions,seed,caption";
  for (const char* attribute : kAttributes) {
    line += std::string(",") + attribute;
  }
  return line + ",measured\n";
}

std::string details_line(const EvaluatedClip& clip) {
  std::string line =
      "\"" + clip.row + "\"," + std::to_string(clip.seed) + ",\"" + clip.caption + "\"";
  for (const bool right : verdict(clip.asked, clip.measured)) {
    line += right ? ",1" : ",0";
  }
  line += ",\"" + std::string(word(clip.measured.pattern)) + " " +
          std::string(word(clip.measured.background));
  for (const MeasuredObject& object : clip.measured.objects) {
    line += "; " + found(object.size) + " " + found(object.colour) + " " + found(object.shape) +
            " " + found(object.motion);
  }
  return line + "\"\n";
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
