#include "data/encoded_clips.h"

#include <algorithm>

#include "core/error.h"
#include "data/encoded_clip_files.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

// A member of an object that was read from a file.
template <class Value>
Value member(const nlohmann::json& json, const char* key, const std::string& origin) {
  const auto found = json.is_object() ? json.find(key) : json.end();
  constexpr bool is_number = std::is_same_v<Value, int64_t>;
  const bool fits = json.is_object() && found != json.end() &&
                    (is_number ? found->is_number_unsigned() : found->is_string());
  if (!fits) {
    throw InputError(origin + ": " + key + ": expected " + (is_number ? "a whole number" : "text"));
  }
  return found->template get<Value>();
}

const TensorRecord& tensor(const Checkpoint& shard, const std::string& name, size_t dimensions) {
  const auto found = shard.tensors().find(name);
  if (found == shard.tensors().end() || found->second.shape.size() != dimensions ||
      !is_floating(found->second.dtype) || is_fp8(found->second.dtype)) {
    throw InputError(shard.path() + ": expected a tensor " + quoted(name) + " of " +
                     std::to_string(dimensions) + " dimensions in float32, float16 or bf16");
  }
  return found->second;
}

}  // namespace

EncodedClips::EncodedClips(const fs::path& folder) {
  const fs::path index = folder / kIndexName;
  const std::string origin = index.string();
  const nlohmann::json json = read_json_object(index);
  if (!json.contains("format") || json["format"] != kEncodedClipsFormat) {
    throw InputError(origin + ": expected the index of a folder that `ospnext encode` wrote");
  }
  settings_ = json.value("settings", nlohmann::json::object());
  unfinished_ = member<std::string>(json, "unfinished", origin);
  const auto shards = json.find("shards");
  if (shards == json.end() || !shards->is_array()) {
    throw InputError(origin + ": shards: expected a list");
  }
  empty_caption_.emplace(open_checkpoint(folder / kEmptyCaptionName));
  tensor(*empty_caption_, "text", 2);
  shards_.reserve(shards->size());  // records are pointed to
  for (const auto& shard : *shards) {
    const auto name = member<std::string>(shard, "file", origin);
    if (fs::path(name).filename() != name) {
      throw InputError(origin + ": found the shard " + quoted(name) + ", expected a file's name");
    }
    shard_names_.push_back(name);
    add_shard(folder / name, member<int64_t>(shard, "clips", origin));
  }
}

void EncodedClips::add_shard(const fs::path& file, int64_t clips) {
  const Checkpoint& shard = shards_.emplace_back(open_checkpoint(file));
  const auto found = shard.metadata().find("clips");
  const nlohmann::json list = found == shard.metadata().end()
                                  ? nlohmann::json()
                                  : parse_bounded_json(found->second, shard.path());
  if (!list.is_array() || static_cast<int64_t>(list.size()) != clips) {
    throw InputError(shard.path() + ": metadata: clips: expected a list of " +
                     std::to_string(clips) + ", as the index says");
  }
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string origin = shard.path() + ": clip " + std::to_string(i);
    EncodedClip clip{.video = member<std::string>(list[i], "video", origin),
                     .caption = member<std::string>(list[i], "caption", origin),
                     .first_frame = member<int64_t>(list[i], "first_frame", origin),
                     .text = member<int64_t>(list[i], "text", origin)};
    const TensorRecord& latent = tensor(shard, latent_name(i), 4);
    const TensorRecord& text = tensor(shard, text_name(clip.text), 2);
    check_shapes(latent, text, origin);
    clips_.push_back({.clip = std::move(clip), .latent = &latent, .text = &text});
  }
}

void EncodedClips::check_shapes(const TensorRecord& latent, const TensorRecord& text,
                                const std::string& origin) const {
  const TensorRecord& empty = empty_caption_->tensors().at("text");
  const int64_t channels = clips_.empty() ? latent.shape[0] : clips_[0].latent->shape[0];
  if (latent.shape[0] != channels || latent.element_count() == 0) {
    throw InputError(origin + ": found a latent " + shape_text(latent.shape) + ", expected " +
                     std::to_string(channels) + " channels and no empty side");
  }
  if (text.shape[1] != empty.shape[1] || text.element_count() == 0) {
    throw InputError(origin + ": found text " + shape_text(text.shape) + ", expected rows of " +
                     std::to_string(empty.shape[1]));
  }
}

at::Tensor EncodedClips::latent(int64_t i) const {
  return to_tensor(*at(i).latent);
}

at::Tensor EncodedClips::text(int64_t i) const {
  return to_tensor(*at(i).text);
}

at::Tensor EncodedClips::empty_text() const {
  return to_tensor(empty_caption_->tensors().at("text"));
}

}  // namespace ospnext
