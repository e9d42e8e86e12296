// ospnext generate: prompts to video files.
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/generate_config.h"
#include "cli/sampling_flags.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/version.h"
#include "io/output_file.h"
#include "io/video.h"
#include "io/weights.h"
#include "pipeline/memory.h"
#include "pipeline/prompts.h"

namespace ospnext {
namespace {

using nlohmann::json;

// The flags, where the help does not show a default that the model will set.
std::vector<Flag> generate_flags() {
  std::vector<Flag> flags = flags_of(GenerateConfig());
  GenerationConfig generation;
  generation.visit([&](const std::string& name, const auto&, const char*) {
    for (Flag& flag : flags) {
      if (flag.name == name) {
        flag.default_value = nullptr;
      }
    }
  });
  return flags;
}

// Writes what the pipeline makes.
class FileReceiver final : public VideoReceiver {
 public:
  FileReceiver(const GenerateConfig& config, const std::vector<VideoSample>& samples)
      : config_(config), samples_(samples) {}

  // Throws InputError when anything could not be written. Leaves nothing.
  void check_outputs() const {
    for (size_t i = 0; i < samples_.size(); ++i) {
      check_video_output(config_of(i).output, "--output");
      check_writable(sidecar_of(i), "--output");
    }
    if (!config_.save_latent.empty()) {
      check_writable(config_.save_latent, "--save-latent");
    }
    if (!config_.save_video_tensor.empty()) {
      check_writable(config_.save_video_tensor, "--save-video-tensor");
    }
  }

  void latent(size_t sample, const at::Tensor& latent) override {
    if (config_.save_latent.empty()) {
      return;
    }
    latents_.push_back(latent.cpu());
    if (sample + 1 == samples_.size()) {
      save_safetensors(config_.save_latent, {{"latent", torch::stack(latents_)}});
      latents_.clear();
    }
  }

  void frames(size_t sample, const at::Tensor& frames) override {
    if (!writer_) {
      const GenerateConfig one = config_of(sample);
      writer_ = open_video(one.output, {.width = one.generation.width,
                                        .height = one.generation.height,
                                        .fps = one.generation.fps,
                                        .comment = fields_to_json(one).dump()});
    }
    writer_->write(video_to_pixels(frames));
    if (!config_.save_video_tensor.empty()) {
      frames_.push_back(frames.cpu());
    }
  }

  void finished(size_t sample) override {
    writer_->finish();
    writer_.reset();
    write_sidecar(sample, nullptr);
    if (config_.save_video_tensor.empty()) {
      return;
    }
    videos_.push_back(torch::cat(frames_, 1));  // [3, T, H, W]
    frames_.clear();
    if (sample + 1 == samples_.size()) {
      save_safetensors(config_.save_video_tensor, {{"video", torch::stack(videos_)}});
    }
  }

  // The configuration that makes the video again, and apart from it what this run took.
  void write_sidecar(size_t sample, const json& run) const {
    json record = {{"ospnext", kVersion}, {"config", fields_to_json(config_of(sample))}};
    if (!run.is_null()) {
      record["run"] = run;
    }
    write_text_file(sidecar_of(sample), record.dump(2) + "\n");
  }

 private:
  GenerateConfig config_of(size_t sample) const { return config_.of_sample(samples_, sample); }
  std::filesystem::path sidecar_of(size_t sample) const {
    return sidecar_file(config_.output, sample, samples_.size());
  }

  const GenerateConfig& config_;
  const std::vector<VideoSample>& samples_;
  std::unique_ptr<VideoWriter> writer_;
  std::vector<at::Tensor> latents_, frames_, videos_;
};

// Noise from --initial-noise, one latent a sample.
void set_noise(std::vector<VideoSample>& samples, const GenerateConfig& config,
               const VaeConfig& vae) {
  if (config.initial_noise.empty()) {
    return;
  }
  const LatentSize size = latent_size(config.generation, vae);
  std::string shape = std::to_string(samples.size());
  for (const int64_t side : {vae.z_dim, size.frames, size.height, size.width}) {
    shape.append(",").append(std::to_string(side));
  }
  StageInput input(config.initial_noise);
  const at::Tensor noise = input.floats("latent", shape);
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].noise = noise[static_cast<int64_t>(i)].to(torch::kFloat32);
  }
}

json run_record(const Progress& progress, const ComputeOptions& compute) {
  const PeakMemory peak = peak_memory(compute.device);
  json seconds = json::array();
  for (const auto& [stage, duration] : progress.stage_seconds()) {
    seconds.push_back({stage, duration});
  }
  json record = {{"stage_seconds", seconds}, {"peak_host_bytes", peak.host_bytes}};
  if (compute.device.is_cuda()) {
    record["peak_cuda_bytes"] = peak.cuda_bytes;
  }
  return record;
}

void print_summary(const json& run) {
  constexpr double kMebibyte = 1 << 20;
  char line[160];
  double total = 0;
  for (const json& stage : run["stage_seconds"]) {
    const auto seconds = stage[1].get<double>();
    total += seconds;
    std::snprintf(line, sizeof line, "%9.2f s  %s\n", seconds, stage[0].get<std::string>().c_str());
    std::cerr << line;
  }
  std::snprintf(line, sizeof line, "%9.2f s  in all, at most %.0f MiB of host memory", total,
                run["peak_host_bytes"].get<double>() / kMebibyte);
  std::cerr << line;
  if (run.contains("peak_cuda_bytes")) {
    std::snprintf(line, sizeof line, " and %.0f MiB of the GPU's",
                  run["peak_cuda_bytes"].get<double>() / kMebibyte);
    std::cerr << line;
  }
  std::cerr << std::endl;
}

}  // namespace

void run_generate(const Arguments& arguments, const CancellationToken& cancel) {
  const auto given =
      read_flags("generate",
                 "Make videos from prompts. Size, steps and guidance default to the model's own "
                 "values. Beside each video a .json keeps what made it; --config reads it back.",
                 generate_flags(), arguments);
  if (!given) {
    return;
  }
  GenerateConfig config;
  given->apply(config);
  if (!given->has("prompt") && !given->has("prompts")) {
    throw InputError("--prompt: missing, expected --prompt TEXT or --prompts FILE");
  }
  const ModelFiles files = config.model.find(config.loras);
  config.generation =
      defaults_for(files, read_transformer_config(files.require(ModelPart::kTransformer)));
  given->apply(config);
  if (given->flags.contains("prompt") != given->flags.contains("prompts")) {
    // A flag goes before the other one in a --config file.
    (given->flags.contains("prompt") ? config.prompts : config.prompt).clear();
  }
  settle_sigmas(*given, config.generation.sigmas, config.generation.steps);
  config.check();
  const ComputeOptions compute = parse_compute(config.device, config.precision);
  config.device = compute.device.str();
  config.precision = compute.dtype == at::kFloat ? "float32" : "bf16";
  const VaeConfig vae = read_vae_config(files.require(ModelPart::kVae));
  config.generation.check(vae);
  const auto tiling = vae_tiling_of(files, compute, config.generation);
  config.generation.vae_tile = tiling ? tiling->text() : "none";  // for the record beside the video
  std::vector<VideoSample> samples = config.samples();
  FileReceiver receiver(config, samples);
  receiver.check_outputs();
  set_noise(samples, config, vae);

  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  text_to_video(files, compute, config.generation, samples, receiver, progress, cancel);
  const json run = run_record(progress, compute);
  for (size_t i = 0; i < samples.size(); ++i) {
    receiver.write_sidecar(i, run);
    std::cout << sample_output(config.output, i, samples.size()).string() << "\n";
  }
  print_summary(run);
}

}  // namespace ospnext
