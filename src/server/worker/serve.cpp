#include "server/worker/serve.h"

#include <c10/core/DeviceGuard.h>

#include <chrono>
#include <ctime>
#include <future>
#include <iostream>
#include <mutex>

#include "core/error.h"
#include "engine/generation_config.h"
#include "io/video.h"
#include "server/digest.h"
#include "server/http/server.h"
#include "server/video_api.h"
#include "server/webhooks.h"
#include "server/worker/video_worker.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

// Lines on standard error, each with the time.
class ServerLog {
 public:
  void write(const std::string& line) {
    const std::time_t now = std::time(nullptr);
    std::tm parts = {};
    gmtime_r(&now, &parts);
    char time[32];
    std::strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%SZ ", &parts);
    const std::lock_guard lock(mutex_);
    std::cerr << time + line + "\n" << std::flush;
  }

 private:
  std::mutex mutex_;
};

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

// The workers, each in a thread of its own.
class Workers {
 public:
  // What workers need of others, which outlives them.
  struct Surroundings {
    const ModelSource& source;
    const ModelCard& card;
    JobStore& store;
    Metrics& metrics;
    Bell& bell;
    ServerLog& log;
  };
  // Loads the model on every device. Throws InputError, and as VideoWorker() does.
  Workers(const ServeConfig& config, const GenerationConfig& own, const Surroundings& around)
      : bell_(around.bell) {
    std::vector<ComputeOptions> computes;
    for (const std::string& device : config.devices) {
      computes.push_back(compute_of(config, device));
    }
    std::vector<std::future<void>> loaded;
    for (const ComputeOptions& compute : computes) {
      auto is_loaded = std::make_shared<std::promise<void>>();
      loaded.push_back(is_loaded->get_future());
      threads_.push_back(std::async(
          std::launch::async, [this, around, settings = settings_of(config, own, compute), compute,
                               is_loaded] { work(around, settings, compute, *is_loaded); }));
    }
    try {
      for (auto& one : loaded) {
        one.get();
      }
    } catch (...) {
      stop(seconds(0));
      throw;
    }
  }
  ~Workers() { stop(seconds(0)); }

  // Throws what has ended a worker, if one has ended.
  void check() {
    for (auto& thread : threads_) {
      if (thread.wait_for(seconds(0)) == std::future_status::ready) {
        thread.get();
      }
    }
  }
  // Lets the jobs that are being made end, for `patience`; then puts them back.
  void stop(seconds patience) {
    const auto deadline = steady_clock::now() + patience;
    drain_.cancel();
    bell_.ring();
    for (auto& thread : threads_) {
      if (thread.valid() && thread.wait_until(deadline) != std::future_status::ready) {
        abort_.cancel();
        thread.wait();
      }
    }
  }

 private:
  static ComputeOptions compute_of(const ServeConfig& config, const std::string& device) {
    try {
      ComputeOptions compute = parse_transformer_compute(device, config.precision);
      compute.offload = config.offload;
      return compute;
    } catch (const InputError& error) {
      const std::string text = error.what(), field = "`device`";
      throw InputError(text.starts_with(field) ? "`devices`" + text.substr(field.size()) : text);
    }
  }

  static WorkerSettings settings_of(const ServeConfig& config, const GenerationConfig& own,
                                    const ComputeOptions& compute) {
    constexpr int64_t kMinute = 60;
    WorkerSettings settings;
    settings.name = compute.device.str() + "-" + random_hex(6);
    settings.base.model = config.model;
    settings.base.generation = own;
    settings.base.device = compute.device.str();
    settings.base.precision = compute.precision_name();
    settings.ending = "." + config.container;
    settings.preview = config.preview;
    settings.max_seconds = config.max_minutes * kMinute;
    settings.logs_prompts = config.log_prompts;
    return settings;
  }

  void work(const Surroundings& around, const WorkerSettings& settings,
            const ComputeOptions& compute, std::promise<void>& is_loaded) {
    const c10::OptionalDeviceGuard guard(compute.device);
    ServerLog& log = around.log;
    log.write("loading " + around.card.id + " on " + compute.device.str());
    std::optional<VideoWorker> worker;
    try {
      worker.emplace(settings, around.card, around.source, compute, around.store, around.metrics,
                     [&log](const std::string& line) { log.write(line); });
    } catch (...) {
      is_loaded.set_exception(std::current_exception());
      return;
    }
    is_loaded.set_value();
    worker->run(bell_, drain_, abort_);
  }

  Bell& bell_;
  CancellationToken drain_, abort_;
  std::vector<std::future<void>> threads_;
};

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

}  // namespace

void serve(const ServeConfig& config, const CancellationToken& cancel) {
  constexpr int kHttpThreads = 4;
  config.check();
  const ModelFiles files = config.model.find();
  const GenerationConfig own =
      defaults_for(files, read_transformer_config(files.require(ModelPart::kTransformer)));
  const ModelFileSource source(files);
  own.check(source.vae_config());
  const ModelCard card = card_of(config, own, source.vae_config());
  check_own_values(config, card);
  KeyRing keys = config.keys.empty() ? KeyRing() : KeyRing(config.keys);
  JobStore store(config.data, store_limits(config));
  check_video_output(fs::path(config.data) / ("video." + config.container),
                     {.width = own.width, .height = own.height, .fps = own.fps, .comment = ""},
                     "`container`");

  ServerLog log;
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
  Workers workers(config, own, {source, card, store, metrics, bell, log});
  std::cout << "listening on " << url_of(config, server) << std::endl;
  keep_house(store, workers, log, cancel);
  log.write("draining");
  api.drain();
  workers.stop(seconds(config.drain_seconds));
  log.write("stopped");
}

}  // namespace ospnext
