#include "server/worker/workers.h"

#include <c10/core/DeviceGuard.h>

#include "core/error.h"
#include "server/digest.h"
#include "server/worker/video_worker.h"

namespace ospnext {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;

WorkerSettings settings_of(const ServeConfig& config, const ModelCard& card,
                           const ComputeOptions& compute) {
  constexpr int64_t kMinute = 60;
  return {.name = compute.device.str() + "-" + random_hex(6),
          .model = card.id,
          .ending = "." + config.container,
          .batch = config.batch,
          .preview = config.preview,
          .max_seconds = config.max_minutes * kMinute,
          .logs_prompts = config.log_prompts};
}

}  // namespace

ComputeOptions compute_of(const ServeConfig& config, const std::string& device) {
  try {
    ComputeOptions compute = parse_transformer_compute(device, config.precision);
    compute.offload = config.offload;
    return compute;
  } catch (const InputError& error) {
    const std::string text = error.what(), field = "`device`";
    throw InputError(text.starts_with(field) ? "`devices`" + text.substr(field.size()) : text);
  }
}

GenerateConfig common_config(const ServeConfig& config, const GenerationConfig& own,
                             const ComputeOptions& compute) {
  GenerateConfig common;
  common.model = config.model;
  common.generation = own;
  common.device = compute.device.str();
  common.precision = compute.precision_name();
  return common;
}

Workers::Workers(const ServeConfig& config, const GenerationConfig& own,
                 const std::vector<ComputeOptions>& devices,
                 const std::vector<WorkRanks>& by_videos, const Surroundings& around)
    : bell_(around.bell) {
  std::vector<std::future<void>> loaded;
  for (const ComputeOptions& compute : devices) {
    auto shift =
        std::make_shared<Shift>(Shift{common_config(config, own, compute), compute,
                                      devices.size() == 1 ? by_videos : std::vector<WorkRanks>(1)});
    loaded.push_back(shift->is_loaded.get_future());
    threads_.push_back(std::async(std::launch::async,
                                  [this, config, around, shift] { work(config, around, *shift); }));
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

void Workers::work(const ServeConfig& config, const Surroundings& around, Shift& shift) {
  const c10::OptionalDeviceGuard guard(shift.compute.device);
  const auto log = [&](const std::string& line) { around.log.write(line); };
  log("loading " + around.card.id + " on " + shift.compute.device.str());
  std::optional<VideoMaker> maker;
  try {
    maker.emplace(shift.base, around.card, around.source, shift.compute, shift.by_videos);
  } catch (...) {
    shift.is_loaded.set_exception(std::current_exception());
    return;
  }
  shift.is_loaded.set_value();
  VideoWorker(settings_of(config, around.card, shift.compute), *maker, around.store, around.metrics,
              log)
      .run(bell_, drain_, abort_);
}

void Workers::check() {
  for (auto& thread : threads_) {
    if (thread.valid() && thread.wait_for(seconds(0)) == std::future_status::ready) {
      thread.get();
    }
  }
}

void Workers::stop(seconds patience) {
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

}  // namespace ospnext
