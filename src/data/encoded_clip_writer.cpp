// The writer of encoded_clips.h.
#include <algorithm>

#include "core/error.h"
#include "data/encoded_clip_files.h"
#include "data/encoded_clips.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostClipsInShard = 20'000;

// Creates the folder if it is not there. Throws InputError.
fs::path made_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error || !fs::is_directory(folder)) {
    throw InputError("`output` " + folder.string() + ": cannot be made a folder");
  }
  return folder;
}

}  // namespace

EncodedClipWriter::EncodedClipWriter(const fs::path& folder, const nlohmann::json& settings,
                                     int64_t max_shard_bytes)
    : folder_(made_folder(folder)),
      settings_(settings),
      max_shard_bytes_(max_shard_bytes),
      lock_(folder_ / kIndexName) {
  check_writable(folder_ / kIndexName, "`output`");
  if (fs::exists(folder_ / kIndexName)) {
    read_existing();
    return;
  }
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    // of a run that was killed before it wrote an index
    const bool is_ours = name == kEmptyCaptionName || name == shard_name(0);
    if (!is_ours && !name.starts_with(".")) {
      throw InputError("`output` " + folder_.string() + ": found " + name +
                       ", expected an empty folder or one of encoded clips");
    }
  }
}

void EncodedClipWriter::read_existing() {
  const EncodedClips existing(folder_);
  for (const auto& [key, value] : settings_.items()) {
    const auto found = existing.settings().find(key);
    if (found == existing.settings().end() || *found != value) {
      throw InputError("`output` " + folder_.string() + ": its clips were encoded with " + key +
                       " " + (found == existing.settings().end() ? "unknown" : shown(*found)) +
                       ", found " + shown(value) + ": name another folder");
    }
  }
  for (int64_t i = 0; i < existing.size(); ++i) {
    const EncodedClip& clip = existing.clip(i);
    Video& video = videos_[clip.video];
    video.caption = clip.caption;
    ++video.clips;
    video.is_finished = clip.video != existing.unfinished();
  }
  written_clips_ = existing.size();
  shards_ = read_json_object(folder_ / kIndexName)["shards"];
}

bool EncodedClipWriter::has_empty_text() const {
  return fs::exists(folder_ / kIndexName);  // which is written behind it
}

void EncodedClipWriter::set_empty_text(const at::Tensor& rows) const {
  save_safetensors(folder_ / kEmptyCaptionName, {{"text", rows.cpu().contiguous()}});
  write_index("");
}

int64_t EncodedClipWriter::clips_of(const std::string& video) const {
  const auto found = videos_.find(video);
  return found == videos_.end() ? 0 : found->second.clips;
}

bool EncodedClipWriter::is_finished(const std::string& video) const {
  const auto found = videos_.find(video);
  return found != videos_.end() && found->second.is_finished;
}

const std::string* EncodedClipWriter::caption_of(const std::string& video) const {
  const auto found = videos_.find(video);
  return found == videos_.end() ? nullptr : &found->second.caption;
}

std::vector<std::string> EncodedClipWriter::videos() const {
  std::vector<std::string> names;
  for (const auto& entry : videos_) {
    names.push_back(entry.first);
  }
  return names;
}

void EncodedClipWriter::add(const std::string& video, const std::string& caption,
                            int64_t first_frame, const at::Tensor& latent, const at::Tensor& text) {
  EncodedClip clip{.video = video, .caption = caption, .first_frame = first_frame};
  const bool is_next_of_video = !pending_.empty() && pending_.back().video == video;
  clip.text = pending_.empty() ? 0 : pending_.back().text + (is_next_of_video ? 0 : 1);
  tensors_[latent_name(pending_.size())] = latent;
  pending_bytes_ += static_cast<int64_t>(latent.nbytes());
  if (!is_next_of_video) {
    tensors_[text_name(clip.text)] = text;
    pending_bytes_ += static_cast<int64_t>(text.nbytes());
  }
  pending_.push_back(std::move(clip));
  Video& state = videos_[video];
  state.caption = caption;
  ++state.clips;
  state.is_finished = false;
  if (pending_bytes_ >= max_shard_bytes_ || pending_.size() == kMostClipsInShard) {
    flush();
  }
}

void EncodedClipWriter::finish(const std::string& video) {
  const auto found = videos_.find(video);
  if (found == videos_.end() || found->second.is_finished) {
    return;
  }
  found->second.is_finished = true;
  if (pending_.empty()) {
    write_index("");  // its last clips are in a shard already
  }
}

void EncodedClipWriter::flush() {
  if (pending_.empty()) {
    return;
  }
  nlohmann::json clips = nlohmann::json::array();
  for (const EncodedClip& clip : pending_) {
    clips.push_back({{"video", clip.video},
                     {"caption", clip.caption},
                     {"first_frame", clip.first_frame},
                     {"text", clip.text}});
  }
  const std::string name = shard_name(shards_.size());
  save_safetensors(folder_ / name, tensors_, {{"clips", clips.dump()}});
  shards_.push_back({{"file", name}, {"clips", clips.size()}});
  const std::string last = pending_.back().video;
  write_index(videos_.at(last).is_finished ? "" : last);
  written_clips_ += static_cast<int64_t>(pending_.size());
  pending_.clear();
  tensors_.clear();
  pending_bytes_ = 0;
}

void EncodedClipWriter::write_index(const std::string& unfinished) const {
  const nlohmann::json index{{"format", kEncodedClipsFormat},
                             {"settings", settings_},
                             {"shards", shards_},
                             {"unfinished", unfinished}};
  write_text_file(folder_ / kIndexName, index.dump(1) + "\n");
}

}  // namespace ospnext
