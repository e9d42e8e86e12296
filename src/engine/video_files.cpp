#include "engine/video_files.h"

#include <algorithm>
#include <cmath>
#include <ostream>

#include "core/error.h"
#include "core/fields.h"
#include "core/log.h"
#include "core/version.h"
#include "engine/memory.h"
#include "engine/prompts.h"
#include "io/image.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool all_exist(const GenerateConfig& config) {
  std::error_code ignored;
  const fs::path output = config.output;
  if (!frame_pattern(output)) {
    return fs::exists(output, ignored);
  }
  for (int64_t frame = 0; frame < config.generation.num_frames; ++frame) {
    if (!fs::exists(numbered_file(output, frame), ignored)) {
      return false;
    }
  }
  return true;
}

// Throws InputError if `profile` would overwrite a video or its JSON.
void check_apart(const fs::path& profile, const fs::path& other) {
  std::error_code ignored;
  if (fs::weakly_canonical(profile, ignored) == fs::weakly_canonical(other, ignored)) {
    throw InputError("`profile` " + profile.string() +
                     ": a file of `output` has this name, expected another");
  }
}

// Throws InputError when a name that numbers make longer than the video's own is too long.
void check_numbered_names(const GenerateConfig& config, size_t index, size_t count,
                          const fs::path& output) {
  const GenerationConfig& generation = config.generation;
  std::string flag = "`output` ";
  try {
    if (frame_pattern(output)) {
      check_name(numbered_file(output, generation.num_frames - 1));
    }
    if (config.preview > 0) {
      flag = "`preview`: ";
      check_name(preview_file(config.output, index, count, generation.steps));
    }
  } catch (const InputError& error) {
    throw InputError(flag + error.what());
  }
}

// Throws InputError unless the video that `sidecar` describes is one that `wanted` would make.
void check_made_alike(const fs::path& sidecar, const GenerateConfig& wanted) {
  const json record = read_json_file(sidecar);
  if (!record.is_object() || !record.contains("config") || !record["config"].is_object()) {
    throw InputError("`skip_existing`: " + sidecar.string() +
                     ": found no configuration in it, expected the JSON of " + wanted.output);
  }
  json expected = fields_to_json(wanted);
  expected.erase("output");  // may be spelled differently
  expected.erase("device");  // a run may continue on another device
  for (const auto& [name, value] : expected.items()) {
    const json& found = record["config"].value(name, value);
    if (found != value) {
      throw InputError("`skip_existing`: " + wanted.output + " exists, but " + sidecar.string() +
                       " says it was made with " + name + " " + found.dump() + ", expected " +
                       value.dump() + "; choose another `output` or remove it");
    }
  }
}

}  // namespace

at::Tensor small_picture(const at::Tensor& frame, int64_t side) {
  const int64_t height = frame.size(2), width = frame.size(3);
  const int64_t longer = std::max({height, width, side});
  const at::Tensor shrunk =
      at::adaptive_avg_pool2d(frame.to(torch::kFloat32).select(1, 0),
                              {std::max<int64_t>(1, height * side / longer),
                               std::max<int64_t>(1, width * side / longer)});  // [3, h, w]
  return video_to_pixels(shrunk.unsqueeze(1))[0];                              // [h, w, 3]
}

json run_record(const Progress& progress, size_t begin, at::Device device) {
  const PeakMemory peak = peak_memory(device);
  const auto& stages = progress.stage_seconds();
  json seconds = json::array();
  for (size_t i = begin; i < stages.size(); ++i) {
    seconds.push_back({stages[i].first, stages[i].second});
  }
  json record = {{"stage_seconds", seconds}, {"peak_host_bytes", peak.host_bytes}};
  if (device.is_cuda()) {
    record["peak_cuda_bytes"] = peak.cuda_bytes;
  }
  return record;
}

VideoFiles::VideoFiles(const GenerateConfig& config, const std::vector<VideoSample>& samples,
                       at::Device device, const Progress& progress, std::ostream* names,
                       int64_t batch)
    : config_(config),
      samples_(samples),
      device_(device),
      progress_(progress),
      names_(names),
      batch_(batch) {
  for (size_t i = 0; i < samples.size(); ++i) {
    if (!config.skip_existing || !is_made(i)) {
      to_make_.push_back(i);
    }
  }
  check_outputs();
  lock_.emplace(config.output);
}

bool VideoFiles::is_made(size_t index) const {
  const GenerateConfig one = config_of(index);
  std::error_code ignored;
  if (!fs::exists(sidecar_of(index), ignored) || !all_exist(one)) {
    return false;
  }
  check_made_alike(sidecar_of(index), one);
  return true;
}

void VideoFiles::check_outputs() const {
  for (const size_t index : to_make_) {
    check_video_output(config_of(index).output, format_of(index), "`output`");
    check_writable(sidecar_of(index), "`output`");
    check_numbered_names(config_, index, samples_.size(),
                         config_.of_sample(samples_, index).output);
  }
  if (!config_.save_latent.empty()) {
    check_writable(config_.save_latent, "`save_latent`");
  }
  if (!config_.save_video_tensor.empty()) {
    check_writable(config_.save_video_tensor, "`save_video_tensor`");
  }
  if (!config_.profile.empty()) {
    check_writable(config_.profile, "`profile`");
    for (const size_t index : to_make_) {
      check_apart(config_.profile, config_of(index).output);
      check_apart(config_.profile, sidecar_of(index));
    }
  }
}

fs::path VideoFiles::sidecar_of(size_t index) const {
  return sidecar_file(config_.output, index, samples_.size());
}

// The file contains the configuration that determines its frames, without output paths.
VideoFormat VideoFiles::format_of(size_t index) const {
  json comment = fields_to_json(config_of(index));
  comment.erase("output");
  return {.width = config_.generation.width,
          .height = config_.generation.height,
          .fps = config_.generation.fps,
          .comment = comment.dump()};
}

// The configuration that makes this video again, and separately the costs of this run.
json VideoFiles::record_of(size_t index) {
  json run = run_record(progress_, reported_stages_, device_);
  if (batch_ > 1) {
    run["batch_size"] = batch_;
  }
  reported_stages_ = progress_.stage_seconds().size();
  return {{"ospnext", kVersion}, {"config", fields_to_json(config_of(index))}, {"run", run}};
}

void VideoFiles::prompt_cut(const std::string& text, int64_t tokens, int64_t read) {
  warn(cut_sentence(text, tokens, read));
}

bool VideoFiles::wants_preview(size_t, int64_t done) {
  return config_.preview > 0 && done % config_.preview == 0;
}

void VideoFiles::preview(size_t sample, int64_t done, const at::Tensor& frame) {
  const fs::path file = preview_file(config_.output, to_make_[sample], samples_.size(), done);
  try {
    write_text_file(file, encode_png(small_picture(frame, kPreviewSide)));
  } catch (const std::runtime_error& error) {  // not a reason to lose the video
    warn(std::string("no preview: ") + error.what());
  }
}

void VideoFiles::latent(size_t sample, const at::Tensor& latent) {
  if (config_.save_latent.empty()) {
    return;
  }
  latents_.push_back(latent.cpu());
  if (sample + 1 == to_make_.size()) {
    save_safetensors(config_.save_latent, {{"latent", torch::stack(latents_)}});
    latents_.clear();
  }
}

void VideoFiles::frames(size_t sample, const at::Tensor& frames) {
  if (!writer_) {
    writer_ = open_video(config_of(to_make_[sample]).output, format_of(to_make_[sample]));
  }
  const at::Tensor pixels = video_to_pixels(frames);
  if (writing_.valid()) {
    writing_.get();
  }
  writing_ =
      std::async(std::launch::async, [writer = writer_.get(), pixels] { writer->write(pixels); });
  if (!config_.save_video_tensor.empty()) {
    frames_.push_back(frames.cpu());
  }
}

void VideoFiles::finished(size_t sample) {
  const size_t index = to_make_[sample];
  writing_.get();
  // First write all bytes, then rename. The JSON of an older video is removed before that video is
  // replaced.
  writer_->finish();
  PendingFile sidecar(sidecar_of(index));
  sidecar.write(record_of(index).dump(2) + "\n");
  sidecar.flush();
  std::error_code ignored;
  fs::remove(sidecar.target(), ignored);
  writer_->commit();
  sidecar.commit();
  writer_.reset();
  if (names_ != nullptr) {
    *names_ << config_of(index).output << std::endl;
  }
  if (config_.save_video_tensor.empty()) {
    return;
  }
  videos_.push_back(torch::cat(frames_, 1));  // [3, T, H, W]
  frames_.clear();
  if (sample + 1 == to_make_.size()) {
    save_safetensors(config_.save_video_tensor, {{"video", torch::stack(videos_)}});
  }
}

}  // namespace ospnext
