// Procedural clips, encoded, as a source of batches.
#pragma once

#include <vector>

#include "train/clip_source.h"
#include "train/latent_cache.h"

namespace ospnext {

struct TinyWorldClipsConfig {
  std::vector<FrameSize> sizes;
  double text_dropout = 0;   // share of captions that are replaced by `empty_caption`
  at::Tensor empty_caption;  // [T] int64
  uint64_t seed = 0;
};

// Draws each batch from a number of clips: a frame size by its share, then clips of that size and
// forms of their captions, uniformly and with repetition.
class TinyWorldClips final : public ClipSource {
 public:
  // One group for each of config.sizes, of the training and of the held-out clips, on one device.
  // Of the latter the first `held_out_clips` are used, taken from the groups in turn.
  TinyWorldClips(std::vector<LatentGroup> groups, std::vector<LatentGroup> held_out,
                 int64_t held_out_clips, TinyWorldClipsConfig config);

  ClipBatch next(const BatchPart& part) override;
  int64_t held_out_clips() const override { return held_out_clips_; }
  ClipBatch held_out(int64_t i) override;
  nlohmann::json state() const override { return {{"batches", batches_}}; }
  void restore(const nlohmann::json& state, const std::string& origin) override;

 private:
  std::vector<LatentGroup> groups_, held_out_;
  int64_t held_out_clips_;
  TinyWorldClipsConfig config_;
  int64_t batches_ = 0;  // drawn so far
};

}  // namespace ospnext
