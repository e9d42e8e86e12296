#include "server/worker/video_maker.h"

#include <algorithm>
#include <cstring>

#include "core/fields.h"
#include "parallel/peer_error.h"
#include "server/worker/job_failure.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr size_t kMostAdapters = 4;  // that are kept in host memory

}  // namespace

VideoMaker::VideoMaker(GenerateConfig base, const ModelCard& card, const ModelSource& source,
                       const ComputeOptions& compute, std::vector<WorkRanks> by_videos)
    : base_(std::move(base)),
      card_(card),
      by_videos_(std::move(by_videos)),
      model_(source, compute, by_videos_.front()) {
  model_.load_transformer();
  model_.ranks().world->meet();
}

void VideoMaker::send(const std::vector<VideoSettings>& videos) const {
  json list = json::array();
  for (const VideoSettings& video : videos) {
    list.push_back(fields_to_json(video));
  }
  const std::string text = list.dump();
  const at::Tensor bytes = at::empty({std::ssize(text)}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  World& world = *model_.ranks().world;
  world.meet();
  share({bytes}, world.all(), model_.compute().device);
}

std::vector<VideoSettings> VideoMaker::receive() const {
  World& world = *model_.ranks().world;
  world.meet();
  const at::Tensor bytes =
      share({}, world.all(), model_.compute().device).front().to(at::kCPU).contiguous();
  const auto* const begin = bytes.const_data_ptr<uint8_t>();
  std::vector<VideoSettings> videos;
  for (const json& fields : json::parse(begin, begin + bytes.numel())) {
    fields_from_json(videos.emplace_back(), fields, "the videos of rank 0");
  }
  return videos;
}

const std::string& VideoMaker::lora_file(const std::string& name) const {
  const auto found = card_.loras.find(name);
  if (found == card_.loras.end()) {
    throw InputError("lora: found \"" + name + "\", which the server has no more");
  }
  return found->second;
}

// What `generate` would be told to make these videos.
std::vector<GenerateConfig> VideoMaker::configs_of(const std::vector<VideoSettings>& videos) const {
  std::vector<GenerateConfig> configs;
  for (const VideoSettings& video : videos) {
    GenerateConfig& config = configs.emplace_back(base_);
    config.prompt = video.prompt;
    config.seed = static_cast<uint64_t>(video.seed);
    GenerationConfig& generation = config.generation;
    generation.negative_prompt = video.negative_prompt;
    generation.width = video.width;
    generation.height = video.height;
    generation.num_frames = video.num_frames;
    generation.fps = video.fps;
    if (video.num_inference_steps != generation.steps) {
      generation.sigmas.clear();  // levels of the model's own that are for its own number of steps
    }
    generation.steps = video.num_inference_steps;
    generation.guidance_scale = video.guidance_scale;
    generation.shift = video.flow_shift;
    if (!video.lora.empty()) {
      config.loras.lora = {lora_file(video.lora) + ":" + json(video.lora_scale).dump()};
      config.loras.lora_mode = "live";
    }
  }
  const auto tiling = vae_tiling_of(model_.source(), model_.compute(), configs.front().generation,
                                    1, model_.ranks().world->all());
  for (GenerateConfig& config : configs) {
    config.generation.vae_tile = tiling ? tiling->text() : "none";  // for the record of the video
  }
  return configs;
}

void VideoMaker::set_adapter(const VideoSettings& video) {
  if (video.lora.empty()) {
    model_.set_adapters({});
    return;
  }
  if (!adapters_.contains(video.lora)) {
    if (adapters_.size() >= kMostAdapters) {
      adapters_.clear();
    }
    adapters_[video.lora] = model_.read_adapter(lora_file(video.lora));
  }
  model_.set_adapters({{adapters_.at(video.lora), video.lora_scale}});
}

void VideoMaker::make_together(const std::vector<VideoSettings>& videos,
                               const ReceiverOf& receiver_of, const JobControl& job) {
  model_.use_ranks(by_videos_[std::min(videos.size(), by_videos_.size()) - 1]);
  set_adapter(videos.front());
  model_.ranks().world->meet();  // hosts may have other files
  const std::vector<GenerateConfig> configs = configs_of(videos);
  std::vector<VideoSample> samples;
  samples.reserve(configs.size());
  for (const GenerateConfig& config : configs) {
    samples.push_back(config.samples().front());
  }
  const int64_t groups = model_.ranks().mesh.data;
  const int64_t batch = (std::ssize(samples) + groups - 1) / groups;  // of the largest share
  make_videos(model_, configs.front().generation, samples, receiver_of(configs), job, batch);
}

void VideoMaker::make(const std::vector<VideoSettings>& videos, const ReceiverOf& receiver_of,
                      const JobControl& job) {
  World& world = *model_.ranks().world;
  std::optional<JobFailure> failure;
  try {
    make_together(videos, receiver_of, job);
    return;
  } catch (const Cancelled&) {
    throw;
  } catch (const PeerError&) {
    throw;
  } catch (const RankFailure& error) {
    failure = JobFailure::from_text(error.what());
  } catch (const std::exception&) {
    failure = current_failure();
    world.meet_failed(failure->text());
  }
  model_.recover();
  throw JobFailure(*failure);
}

void follow(VideoMaker& maker, const std::function<void(const std::string& line)>& log) {
  NoVideos nothing;
  for (auto videos = maker.receive(); !videos.empty(); videos = maker.receive()) {
    const CancellationToken never;  // the leader ends jobs
    Progress progress(nullptr, false);
    try {
      maker.make(videos, [&](const auto&) -> VideoReceiver& { return nothing; }, {progress, never});
    } catch (const Cancelled&) {
      // as the leader said
    } catch (const JobFailure& failure) {
      log(failure.text() + (failure.detail().empty() ? "" : ": " + failure.detail()));
    }
  }
}

}  // namespace ospnext
