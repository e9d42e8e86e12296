#include "server/worker/serve.h"

#include <c10/core/DeviceGuard.h>

#include <chrono>
#include <iostream>
#include <thread>

#include "core/error.h"
#include "core/fields.h"
#include "engine/generation_config.h"
#include "io/video.h"
#include "server/http/server.h"
#include "server/key_ring.h"
#include "server/video_api.h"
#include "server/webhooks.h"
#include "server/worker/workers.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// The LoRAs in a folder by the names of their files, without the endings.
std::map<std::string, std::string> find_loras(const fs::path& folder) {
  std::map<std::string, std::string> loras;
  if (folder.empty()) {
    return loras;
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path& file = entry.path();
    const std::string ending = file.extension().string();
    if (!entry.is_directory() && ending != ".safetensors" && ending != ".pt" && ending != ".bin") {
      continue;
    }
    if (!loras.emplace(file.stem().string(), file.string()).second) {
      throw InputError("`loras` " + folder.string() + ": found two with the name " +
                       file.stem().string());
    }
  }
  if (error) {
    throw InputError("`loras` " + folder.string() + ": cannot read it: " + error.message());
  }
  return loras;
}

std::string name_of_model(const ServeConfig& config) {
  if (!config.model_name.empty()) {
    return config.model_name;
  }
  fs::path folder = fs::path(config.model.model).lexically_normal();
  folder = folder.has_filename() ? folder : folder.parent_path();
  return folder.filename().empty() ? "ospnext" : folder.stem().string();
}

ModelCard card_of(const ServeConfig& config, const GenerationConfig& own, const VaeConfig& vae) {
  return {.id = name_of_model(config),
          .created = JobStore::system_clock_ms() / 1000,
          .side_step = vae.spatial_factor() * kPatchRows,
          .frame_step = vae.temporal_factor(),
          .width = own.width,
          .height = own.height,
          .num_frames = own.num_frames,
          .fps = own.fps,
          .num_inference_steps = own.steps,
          .guidance_scale = own.guidance_scale,
          .flow_shift = own.shift,
          .negative_prompt = own.negative_prompt,
          .loras = find_loras(config.loras)};
}

// Throws InputError where the model's own values are more than clients may ask for.
void check_own_values(const ServeConfig& config, const ModelCard& card) {
  const std::tuple<const char*, int64_t, int64_t> limits[] = {
      {"`max_width`", config.max_width, card.width},
      {"`max_height`", config.max_height, card.height},
      {"`max_frames`", config.max_frames, card.num_frames},
      {"`max_steps`", config.max_steps, card.num_inference_steps}};
  for (const auto& [name, limit, own] : limits) {
    if (limit < own) {
      throw InputError(std::string(name) + ": found " + std::to_string(limit) +
                       ", expected at least the model's own " + std::to_string(own));
    }
  }
}

StoreLimits store_limits(const ServeConfig& config) {
  constexpr double kGigabyte = 1e9, kHour = 3600;
  return {.queued = config.max_queued,
          .keep_seconds = static_cast<int64_t>(config.keep_hours * kHour),
          .disk_bytes = static_cast<int64_t>(config.max_disk_gb * kGigabyte),
          .lease_ms = config.lease_seconds * 1000};
}

ApiSettings api_settings(const ServeConfig& config, const ModelCard& card) {
  const bool is_alone = config.keys.empty() && !config.open_to_all;
  return {.model = card,
          .limits = {.prompt = config.max_prompt,
                     .width = config.max_width,
                     .height = config.max_height,
                     .frames = config.max_frames,
                     .steps = config.max_steps,
                     .webhooks = parse_origins(config.webhooks, "`webhooks`")},
          .creations_per_minute = config.max_per_minute,
          .origins = config.origins,
          .hosts = is_alone
                       ? std::vector<std::string>{"127.0.0.1", "localhost", "[::1]", config.host}
                       : std::vector<std::string>(),
          .logs_requests = config.log_requests};
}

// Sends webhooks in a thread of its own, as long as it lives.
class WebhookSender {
 public:
  WebhookSender(JobStore& store, const fs::path& secret, ServerLog& log)
      : webhooks_(store, secret, [&log](const std::string& line) { log.write(line); }),
        thread_([this, &log] { work(log); }) {}
  ~WebhookSender() {
    over_.cancel();
    thread_.join();
  }

 private:
  void work(ServerLog& log) {
    while (!over_.cancelled()) {
      try {
        webhooks_.send_due();
      } catch (const DatabaseError& error) {
        log.write("database: " + std::string(error.what()));
      }
      std::this_thread::sleep_for(milliseconds(200));
    }
  }

  Webhooks webhooks_;
  CancellationToken over_;
  std::thread thread_;
};

std::string url_of(const ServeConfig& config, const HttpServer& server) {
  const bool is_v6 = config.host.find(':') != std::string::npos;
  return "http://" + (is_v6 ? "[" + config.host + "]" : config.host) + ":" +
         std::to_string(server.port());
}

// Until `cancel` is set.
void keep_house(JobStore& store, Workers& workers, ServerLog& log,
                const CancellationToken& cancel) {
  constexpr seconds kPause(30);
  steady_clock::time_point next = steady_clock::now();
  while (!cancel.cancelled()) {
    if (steady_clock::now() >= next) {
      next = steady_clock::now() + kPause;
      try {
        store.expire();
      } catch (const DatabaseError& error) {
        log.write("database: " + std::string(error.what()));
      }
    }
    workers.check();
    std::this_thread::sleep_for(milliseconds(50));
  }
}

// The devices of this process. Throws InputError.
std::vector<ComputeOptions> devices_of(const ServeConfig& config, const ProcessPlace& place) {
  if (place.size > 1 && config.devices.size() > 1) {
    throw InputError("`devices`: found " + std::to_string(config.devices.size()) + " with " +
                     std::to_string(place.size) +
                     " processes that make each video together, expected one: each process works "
                     "on a device of its own");
  }
  std::vector<ComputeOptions> devices;
  for (const std::string& device : config.devices) {
    devices.push_back(compute_of(config, device));
    devices.back().device = device_of_rank(devices.back().device, place);
  }
  return devices;
}

// What is served.
struct Served {
  const GenerationConfig& own;
  const ModelSource& source;
  const ModelCard& card;
};

// The process that answers requests: the only one, or the leader of several, which divide 1, 2, …
// videos as `by_videos` says.
void lead(const ServeConfig& config, const Served& served,
          const std::vector<ComputeOptions>& devices, const std::vector<WorkRanks>& by_videos,
          ServerLog& log, const CancellationToken& cancel) {
  constexpr int kHttpThreads = 4;
  const auto& [own, source, card] = served;
  KeyRing keys = config.keys.empty() ? KeyRing() : KeyRing(config.keys);
  JobStore store(config.data, store_limits(config));
  check_video_output(fs::path(config.data) / ("video." + config.container),
                     {.width = own.width, .height = own.height, .fps = own.fps, .comment = ""},
                     "`container`");
  Metrics metrics;
  Bell bell;
  std::optional<WebhookSender> webhooks;
  if (!config.webhook_secret.empty()) {
    webhooks.emplace(store, config.webhook_secret, log);
  }
  VideoApi api(
      api_settings(config, card), std::move(keys), store, metrics,
      [&](const std::string& line) { log.write(line); }, [&] { bell.ring(); });
  const HttpLimits limits = {.body_bytes = static_cast<size_t>(config.max_body),
                             .connections = static_cast<int>(config.max_connections)};
  // Listens before the model is loaded: a taken port is noticed at once, and jobs are accepted.
  const HttpServer server(config.host, static_cast<uint16_t>(config.port), kHttpThreads, limits,
                          api);
  Workers workers(config, own, devices, by_videos, {source, card, store, metrics, bell, log});
  std::cout << "listening on " << url_of(config, server) << std::endl;
  keep_house(store, workers, log, cancel);
  log.write("draining");
  api.drain();
  workers.stop(seconds(config.drain_seconds));
  workers.check();
  log.write("stopped");
}

}  // namespace

void serve(const ServeConfig& config, const CancellationToken& cancel) {
  config.check();
  const ModelFiles files = config.model.find();
  const GenerationConfig own =
      defaults_for(files, read_transformer_config(files.require(ModelPart::kTransformer)));
  const ModelFileSource source(files);
  own.check(source.vae_config());
  const ModelCard card = card_of(config, own, source.vae_config());
  check_own_values(config, card);
  const ProcessPlace place = process_place();
  const std::vector<ComputeOptions> devices = devices_of(config, place);
  const ComputeOptions& compute = devices.front();
  const c10::OptionalDeviceGuard guard(compute.device);
  const CancellationToken never;  // other ranks end when the leader has no more for them
  const auto world = join_world(place, config.world, compute.device, fields_to_json(config), never);
  const std::vector<WorkRanks> by_videos = divide_work_by_videos(
      world, config.mesh, source, compute, own, static_cast<size_t>(config.batch));
  ServerLog log;
  if (by_videos.front().leads()) {
    lead(config, {own, source, card}, devices, by_videos, log, cancel);
  } else {
    VideoMaker maker(common_config(config, own, compute), card, source, compute, by_videos);
    follow(maker, [&](const std::string& line) { log.write(line); });
  }
  world->finish();
}

}  // namespace ospnext
