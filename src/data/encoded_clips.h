// Clips that the VAE and the text encoder have encoded once, in files: what training reads.
// Letters: z latent channels, F x h x w latent, T tokens of a caption, D width of the text encoder.
//
// The folder of encoded clips has
//   index.json                  settings, the shards with their numbers of clips, and the name of a
//                               video that is not finished; written last, so that a file which it
//                               does not name counts as nothing
//   clips-00000.safetensors, …  shards: "latent.N" [z, F, h, w], "text.M" [T, D], and the metadata
//                               "clips", a JSON list of {video, caption, first_frame, text}
//   empty_caption.safetensors   "text" [T, D]
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/output_file.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

struct EncodedClip {
  std::string video;  // its name in the clip folder
  std::string caption;
  int64_t first_frame = 0;  // of the frames that were sampled from the video
  int64_t text = 0;         // number of the text in its shard
};

// Reads such a folder. Tensors are views of mapped files, read-only and valid as long as the
// object.
class EncodedClips {
 public:
  // Opens all shards and checks names, shapes and dtypes against the index and each other. Reads no
  // tensor. Throws InputError. Empty only if nothing was encoded yet.
  explicit EncodedClips(const std::filesystem::path& folder);

  int64_t size() const { return static_cast<int64_t>(clips_.size()); }
  const EncodedClip& clip(int64_t i) const { return at(i).clip; }
  std::vector<int64_t> latent_shape(int64_t i) const { return at(i).latent->shape; }
  // Normalised, [z, F, h, w].
  at::Tensor latent(int64_t i) const;
  // Rows of the caption without padding, [T, D].
  at::Tensor text(int64_t i) const;
  // Rows of the empty caption, [T, D].
  at::Tensor empty_text() const;

  // What the clips were encoded with.
  const nlohmann::json& settings() const { return settings_; }
  // A video of which only the first clips are there; "" if there is none.
  const std::string& unfinished() const { return unfinished_; }
  const std::vector<std::string>& shard_names() const { return shard_names_; }

 private:
  struct Place {
    EncodedClip clip;
    const TensorRecord *latent, *text;
  };
  const Place& at(int64_t i) const { return clips_.at(static_cast<size_t>(i)); }
  void add_shard(const std::filesystem::path& file, int64_t clips);
  void check_shapes(const TensorRecord& latent, const TensorRecord& text,
                    const std::string& origin) const;

  std::vector<Checkpoint> shards_;
  std::vector<std::string> shard_names_;
  std::vector<Place> clips_;
  std::optional<Checkpoint> empty_caption_;
  nlohmann::json settings_;
  std::string unfinished_;
};

// Writes such a folder, or goes on with one. Holds the clips of one shard in memory.
class EncodedClipWriter {
 public:
  // `settings` describes how clips are encoded. Throws InputError if the folder has other files, or
  // clips of other settings, or cannot be written.
  EncodedClipWriter(const std::filesystem::path& folder, const nlohmann::json& settings,
                    int64_t max_shard_bytes);

  // Whether the folder has the rows of the empty caption; if not, set them before any clip.
  bool has_empty_text() const;
  void set_empty_text(const at::Tensor& rows) const;

  // Clips of a video that are there. A finished one needs nothing more.
  int64_t clips_of(const std::string& video) const;
  bool is_finished(const std::string& video) const;
  // The caption with which a video was encoded; null if it was not.
  const std::string* caption_of(const std::string& video) const;
  std::vector<std::string> videos() const;
  int64_t total_clips() const { return written_clips_ + static_cast<int64_t>(pending_.size()); }

  // Adds the next clip of a video: latent [z, F, h, w] and text [T, D] of one float dtype, on the
  // CPU. Writes a shard when the clips are large enough. Throws RunError.
  void add(const std::string& video, const std::string& caption, int64_t first_frame,
           const at::Tensor& latent, const at::Tensor& text);
  // No clip of the video is to come.
  void finish(const std::string& video);
  // Writes all clips that are not written yet, then the index. Throws RunError.
  void flush();

 private:
  struct Video {
    std::string caption;
    int64_t clips = 0;
    bool is_finished = true;
  };
  void read_existing();
  void write_index(const std::string& unfinished) const;

  std::filesystem::path folder_;
  nlohmann::json settings_;
  int64_t max_shard_bytes_;
  OutputLock lock_;
  std::map<std::string, Video> videos_;
  nlohmann::json shards_ = nlohmann::json::array();  // as in the index
  int64_t written_clips_ = 0;
  std::vector<EncodedClip> pending_;
  std::map<std::string, at::Tensor> tensors_;  // of the next shard
  int64_t pending_bytes_ = 0;
};

}  // namespace ospnext
