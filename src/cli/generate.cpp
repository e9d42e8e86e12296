// ospnext generate: prompts to video files.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/ospnext_yaml.h"
#include "cli/sampling_flags.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "engine/generate_config.h"
#include "engine/profile.h"
#include "engine/prompts.h"
#include "engine/video_files.h"

namespace ospnext {
namespace {

using nlohmann::json;

// Noise from --initial-noise: one latent a sample, or the one that --initial-noise-index says.
void set_noise(std::vector<VideoSample>& samples, const GenerateConfig& config,
               const VaeConfig& vae) {
  const int64_t chosen = config.initial_noise_index;
  if (chosen >= 0 && (config.initial_noise.empty() || samples.size() != 1)) {
    throw InputError("--initial-noise-index: found " + std::to_string(samples.size()) +
                     " video(s)" + (config.initial_noise.empty() ? " and no --initial-noise" : "") +
                     ", expected --initial-noise and a single video");
  }
  if (config.initial_noise.empty()) {
    return;
  }
  const LatentSize size = latent_size(config.generation, vae);
  std::string shape = chosen < 0 ? std::to_string(samples.size()) : "n";
  for (const int64_t side : {vae.z_dim, size.frames, size.height, size.width}) {
    shape.append(",").append(std::to_string(side));
  }
  StageInput input(config.initial_noise);
  const at::Tensor noise = input.floats("latent", shape);  // [n, 16, F, h, w]
  if (chosen >= noise.size(0)) {
    throw InputError("--initial-noise-index: found " + std::to_string(chosen) + ", expected 0 to " +
                     std::to_string(noise.size(0) - 1));
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    const int64_t index = chosen < 0 ? static_cast<int64_t>(i) : chosen;
    samples[i].noise = noise[index].to(torch::kFloat32);
  }
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

// What this process exchanged with others.
void print_traffic(const Journal& journal) {
  constexpr double kMega = 1e6;
  char line[160];
  for (const auto& [purpose, traffic] : journal.traffic()) {
    std::snprintf(line, sizeof line, "%9.2f s  %ld exchanges \"%s\", %.2f MB sent\n",
                  traffic.seconds, traffic.calls, purpose.c_str(),
                  static_cast<double>(traffic.bytes) / kMega);
    std::cerr << line;
  }
}

void make_folder_of(const std::filesystem::path& output) {
  std::error_code error;
  std::filesystem::create_directories(output.parent_path(), error);
  if (error) {
    throw InputError("output_dir " + output.parent_path().string() +
                     ": cannot make it: " + error.message());
  }
}

// The receiver of processes that do not lead, to which nothing comes.
class NoFiles final : public VideoReceiver {
  void latent(size_t, const at::Tensor&) override {}
  void frames(size_t, const at::Tensor&) override {}
  void finished(size_t) override {}
};

// What must be the same in all processes.
json common_config(GenerateConfig config) {
  config.device.clear();
  return fields_to_json(config);
}

// Which of the videos are to be made, as the leader finds them.
std::vector<size_t> share_indices(const std::vector<size_t>& indices, const ProcessGroup& all,
                                  at::Device device) {
  const std::vector<int64_t> numbers(indices.begin(), indices.end());
  const at::Tensor shared =
      share({at::tensor(numbers, at::kLong)}, all, device).front().to(at::kCPU);
  const int64_t* const data = shared.const_data_ptr<int64_t>();
  return {data, data + shared.numel()};
}

}  // namespace

void run_generate(const Arguments& arguments, const CancellationToken& cancel) {
  bool is_theirs = false;
  const auto translate = [&](const json& config, const std::filesystem::path& file) {
    is_theirs = is_ospnext_yaml(config);
    return is_theirs ? flags_from_ospnext_yaml(config, file) : config;
  };
  const auto given =
      read_flags("generate",
                 "Make videos from prompts. Size, steps and guidance default to the model's own "
                 "values. Beside each video a .json keeps what made it; --config reads it back.",
                 flags_with_model_defaults(GenerateConfig()), arguments, translate);
  if (!given) {
    return;
  }
  GenerateConfig config;
  given->apply(config);
  if (!given->has("prompt") && !given->has("prompts")) {
    throw InputError("--prompt: missing, expected --prompt TEXT or --prompts FILE");
  }
  const ModelFiles files = config.model.find(config.loras);
  const TransformerConfig transformer =
      read_transformer_config(files.require(ModelPart::kTransformer));
  config.generation = defaults_for(files, transformer);
  given->apply(config);
  if (given->flags.contains("prompt") != given->flags.contains("prompts")) {
    // A flag goes before the other one in a --config file.
    (given->flags.contains("prompt") ? config.prompts : config.prompt).clear();
  }
  settle_sigmas(*given, config.generation.sigmas, config.generation.steps);
  config.check();
  const ProcessPlace place = process_place();
  ComputeOptions compute = parse_transformer_compute(config.device, config.precision);
  compute.device = device_of_rank(compute.device, place);
  config.device = compute.device.str();
  config.precision = compute.precision_name();
  const ModelFileSource source(files);
  const VaeConfig vae = source.vae_config();
  config.generation.check(vae);
  const bool leads = place.rank == 0;
  if (leads && is_theirs && !given->flags.contains("output")) {
    make_folder_of(config.output);  // as OSP-Next does
  }
  std::vector<VideoSample> samples = config.samples();
  set_noise(samples, config, vae);
  std::optional<Profile> profile;
  if (!config.profile.empty()) {
    profile.emplace(compute.device);
  }
  const std::shared_ptr<World> world =
      join_world(place, config.world, compute.device, common_config(config), cancel);
  const auto tiling =
      vae_tiling_of(source, compute, config.generation, samples.size(), world->all());
  config.generation.vae_tile = tiling ? tiling->text() : "none";  // for the record beside the video
  Progress progress(leads ? &std::cerr : nullptr, isatty(STDERR_FILENO) != 0,
                    profile ? &*profile : nullptr);
  std::optional<VideoFiles> files_to_write;
  std::vector<size_t> to_make;
  if (leads) {
    files_to_write.emplace(config, samples, compute.device, progress);
    to_make = files_to_write->to_make();
  }
  to_make = share_indices(to_make, world->all(), compute.device);
  std::vector<VideoSample> missing;
  for (const size_t index : to_make) {
    missing.push_back(samples[index]);
  }
  if (leads && missing.size() < samples.size()) {
    std::cerr << samples.size() - missing.size() << " of " << samples.size()
              << " videos are there already" << std::endl;
  }
  if (!missing.empty()) {
    const WorkRanks ranks =
        divide_work(world, config.mesh, source, compute, config.generation, missing.size());
    NoFiles none;
    VideoReceiver& receiver = leads ? static_cast<VideoReceiver&>(*files_to_write) : none;
    if (profile) {
      world->journal().record_to(profile->spans());
    }
    text_to_video(source, compute, config.generation, missing, receiver, progress, cancel, ranks,
                  profile ? &profile->spans() : nullptr);
    progress.end();
    if (leads) {
      print_summary(run_record(progress, 0, compute.device));
      print_traffic(world->journal());
    }
    if (profile) {
      report_profile(gather_spans(profile->records(), *world, compute.device), config.profile,
                     std::cerr);
    }
  }
  world->finish();
}

}  // namespace ospnext
