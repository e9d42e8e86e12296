// Clips that `ospnext encode` wrote, as a source of batches.
#pragma once

#include <filesystem>
#include <vector>

#include "data/encoded_clips.h"
#include "models/transformer_config.h"
#include "train/clip_source.h"

namespace ospnext {

struct EncodedClipSourceConfig {
  double text_dropout = 0;  // share of captions that are replaced by the empty one
  int64_t held_out = 0;     // clips for validation
  int64_t batch_size = 1;   // clips of a batch, of all processes together
  uint64_t seed = 0;
  at::Device device = at::kCPU;
};

// Gives each clip once in an epoch, in batches of clips of one latent shape. Both the order of the
// clips and that of the batches are drawn anew for each epoch. If the clips of a shape do not fill
// their last batch, the first ones of their order are repeated.
class EncodedClipSource final : public ClipSource {
 public:
  // Clips for validation are those of whole videos, drawn from the seed: their further clips are
  // not trained on either. Throws InputError if the clips do not fit the transformer, or if none
  // is left to train on.
  EncodedClipSource(const std::filesystem::path& folder, const TransformerConfig& transformer,
                    const EncodedClipSourceConfig& config);

  ClipBatch next(const BatchPart& part) override;
  int64_t held_out_clips() const override { return static_cast<int64_t>(held_out_.size()); }
  ClipBatch held_out(int64_t i) override;
  nlohmann::json state() const override { return {{"batches", batches_}}; }
  void restore(const nlohmann::json& state, const std::string& origin) override;

 private:
  using Clips = std::vector<int64_t>;  // numbers of clips

  void check(const TransformerConfig& transformer, const std::string& origin);
  Clips take_held_out();
  void begin_epoch(int64_t epoch);
  // The caption's rows, zero behind them: [longest_, D].
  at::Tensor padded(const at::Tensor& rows) const;
  ClipBatch batch_of(const Clips& clips, const std::vector<bool>& dropped) const;

  EncodedClips clips_;
  EncodedClipSourceConfig config_;
  int64_t longest_ = 0;  // rows of a caption
  Clips held_out_;
  std::vector<Clips> of_shape_;  // the clips to train on
  int64_t batches_per_epoch_ = 0;
  int64_t batches_ = 0;  // given so far
  int64_t epoch_ = -1;   // whose batches these are:
  std::vector<Clips> batches_of_epoch_;
};

}  // namespace ospnext
