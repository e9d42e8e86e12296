// ospnext generate: prompts to video files.
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>

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

// What must be the same in all processes.
json common_config(GenerateConfig config, bool seed_is_drawn) {
  config.device.clear();
  json common = fields_to_json(config);
  if (seed_is_drawn) {
    common["seed"] = -1;  // each has drawn another
  }
  return common;
}

// The leader's numbers, which have 64 bits.
template <class Number>
std::vector<Number> share_numbers(const std::vector<Number>& numbers, const ProcessGroup& all,
                                  at::Device device) {
  const std::vector<int64_t> own(numbers.begin(), numbers.end());
  const at::Tensor shared = share({at::tensor(own, at::kLong)}, all, device).front().to(at::kCPU);
  const int64_t* const data = shared.const_data_ptr<int64_t>();
  return {data, data + shared.numel()};
}

// The leader's seed becomes that of all.
void agree_on_seed(GenerateConfig& config, std::vector<VideoSample>& samples,
                   const ProcessGroup& all, at::Device device) {
  const uint64_t drawn = share_numbers(std::vector<uint64_t>{config.seed}, all, device).front();
  for (VideoSample& sample : samples) {
    sample.seed += drawn - config.seed;  // modulo 2^64
  }
  config.seed = drawn;
}

// Throws InputError unless a model and what it should show are given.
void check_given(const GivenFlags& given, const ModelFields& model) {
  bool has_model = false;
  ModelFields(model).visit([&](const std::string& name, const std::string& path, const char*) {
    has_model = has_model || (!path.empty() && name != "transformer_config");
  });
  if (!has_model) {
    throw InputError(
        "--model: missing, expected the folder of a model; the one that comes with this program: "
        "ospnext generate --model models/tiny --prompt \"a red ball\"");
  }
  if (!given.has("prompt") && !given.has("prompts")) {
    throw InputError("--prompt: missing, expected --prompt TEXT or --prompts FILE");
  }
}

// Draws the seed if it is given as -1; the flag counts before the --config file. Returns whether it
// did. Throws InputError for another negative seed.
bool draw_seed(GivenFlags& given) {
  bool is_drawn = false;
  for (nlohmann::json* const source : {&given.config_file, &given.flags}) {
    const auto seed = source->find("seed");
    if (seed == source->end()) {
      continue;
    }
    is_drawn = false;
    if (!seed->is_number_integer() || seed->is_number_unsigned() || seed->get<int64_t>() >= 0) {
      continue;  // a wrong type is refused with the other flags
    }
    if (*seed != -1) {
      throw InputError("--seed: found " + seed->dump() + ", expected 0 to " +
                       std::to_string(std::numeric_limits<uint64_t>::max()) +
                       ", or -1 to draw one");
    }
    *seed = std::random_device()();  // as many as the generator of the noise tells apart
    is_drawn = true;
  }
  return is_drawn;
}

// A run as the flags ask for it.
struct Request {
  GenerateConfig config;
  ModelFiles files;
  ComputeOptions compute;
  ProcessPlace place;
  bool seed_is_drawn = false;
  bool is_of_ospnext_yaml = false;  // and names no --output, so that its folder is made
};

// Reads the flags and fills in the model's own values. Nothing when help was printed. Throws
// InputError.
std::optional<Request> read_request(const Arguments& arguments) {
  Request request;
  const auto translate = [&](const json& config, const std::filesystem::path& file) {
    request.is_of_ospnext_yaml = is_ospnext_yaml(config);
    return request.is_of_ospnext_yaml ? flags_from_ospnext_yaml(config, file) : config;
  };
  auto given =
      read_flags("generate",
                 "Make videos from prompts. Size, steps and guidance default to the model's own "
                 "values. Beside each video a .json keeps what made it; --config reads it back.",
                 flags_with_model_defaults(GenerateConfig()), arguments, translate);
  if (!given) {
    return std::nullopt;
  }
  request.seed_is_drawn = draw_seed(*given);
  GenerateConfig& config = request.config;
  given->apply(config);
  check_given(*given, config.model);
  if (request.seed_is_drawn && config.skip_existing) {
    throw InputError(
        "--skip-existing: found it with --seed -1, which draws another seed each time; expected "
        "the seed of video 0, which its JSON tells");
  }
  request.files = config.model.find(config.loras);
  config.generation = defaults_for(
      request.files, read_transformer_config(request.files.require(ModelPart::kTransformer)));
  given->apply(config);
  if (given->flags.contains("prompt") != given->flags.contains("prompts")) {
    // A flag goes before the other one in a --config file.
    (given->flags.contains("prompt") ? config.prompts : config.prompt).clear();
  }
  settle_sigmas(*given, config.generation.sigmas, config.generation.steps);
  config.check();
  request.is_of_ospnext_yaml &= !given->flags.contains("output");
  request.place = process_place();
  request.compute = parse_transformer_compute(config.device, config.precision);
  request.compute.offload = config.offload;
  request.compute.device = device_of_rank(request.compute.device, request.place);
  config.device = request.compute.device.str();
  config.precision = request.compute.precision_name();
  return request;
}

// Makes the samples and reports what it took. `files` is that of the leader; null elsewhere. Called
// by all ranks.
void make_videos(const Request& request, const ModelSource& source,
                 const std::vector<VideoSample>& samples, const std::shared_ptr<World>& world,
                 VideoFiles* files, Profile* profile, Progress& progress,
                 const CancellationToken& cancel) {
  const GenerateConfig& config = request.config;
  const WorkRanks ranks =
      divide_work(world, config.mesh, source, request.compute, config.generation, samples.size());
  NoVideos none;
  VideoReceiver& receiver = files != nullptr ? static_cast<VideoReceiver&>(*files) : none;
  if (profile != nullptr) {
    world->journal().record_to(profile->spans());
  }
  text_to_video(source, request.compute, config.generation, samples, receiver, progress, cancel,
                ranks, profile != nullptr ? &profile->spans() : nullptr);
  progress.end();
  if (files != nullptr) {
    print_summary(run_record(progress, 0, request.compute.device));
    print_traffic(world->journal());
  }
  if (profile != nullptr) {
    report_profile(gather_spans(profile->records(), *world, request.compute.device), config.profile,
                   std::cerr);
  }
}

}  // namespace

void run_generate(const Arguments& arguments, const CancellationToken& cancel) {
  std::optional<Request> request = read_request(arguments);
  if (!request) {
    return;
  }
  GenerateConfig& config = request->config;
  const at::Device device = request->compute.device;
  const ModelFileSource source(request->files);
  const VaeConfig vae = source.vae_config();
  config.generation.check(vae);
  const bool leads = request->place.rank == 0;
  if (leads && request->is_of_ospnext_yaml) {
    make_folder_of(config.output);  // as OSP-Next does
  }
  std::vector<VideoSample> samples = config.samples();
  set_noise(samples, config, vae);
  std::optional<Profile> profile;
  if (!config.profile.empty()) {
    profile.emplace(device);
  }
  Profile* const watcher = profile ? &*profile : nullptr;
  const std::shared_ptr<World> world = join_world(
      request->place, config.world, device, common_config(config, request->seed_is_drawn), cancel);
  if (request->seed_is_drawn) {
    agree_on_seed(config, samples, world->all(), device);
  }
  const auto tiling =
      vae_tiling_of(source, request->compute, config.generation, samples.size(), world->all());
  config.generation.vae_tile = tiling ? tiling->text() : "none";  // for the record beside the video
  Progress progress(leads ? &std::cerr : nullptr, isatty(STDERR_FILENO) != 0, watcher);
  std::optional<VideoFiles> files;
  std::vector<size_t> to_make;
  if (leads) {
    files.emplace(config, samples, device, progress, &std::cout);
    to_make = files->to_make();
  }
  std::vector<VideoSample> missing;
  for (const size_t index : share_numbers(to_make, world->all(), device)) {
    missing.push_back(samples[index]);
  }
  if (leads && missing.size() < samples.size()) {
    std::cerr << samples.size() - missing.size() << " of " << samples.size()
              << " videos are there already" << std::endl;
  }
  if (!missing.empty()) {
    make_videos(*request, source, missing, world, files ? &*files : nullptr, watcher, progress,
                cancel);
  }
  world->finish();
}

}  // namespace ospnext
