// Flow matching as an objective of a training.
#pragma once

#include <map>

#include "core/torch/cuda_graph.h"
#include "models/umt5.h"
#include "train/clip_source.h"
#include "train/objective.h"
#include "train/sample_clips.h"
#include "train/training_blocks.h"
#include "train/training_ranks.h"

namespace ospnext {

// How noise levels are drawn: as logit_normal_sigma() of normal draws.
struct NoiseLevels {
  double shift = 1;
  bool dynamic = false;  // the shift is dynamic_shift() of the latent's size instead

  // The shift for a latent of height × width. Throws InputError if a dynamic one is beyond reason.
  double shift_of(int64_t height, int64_t width) const;
};

// A pass is a batch of a source, with noise and noise levels from the seed. The noise of a clip is
// drawn for it alone, and its level with those of the batch: both depend on the pass and on the
// clip's place in the batch, not on the mesh.
class FlowObjective final : public Objective {
 public:
  struct Options {
    uint64_t seed = 0;
    int64_t batch_size = 1;  // clips of a pass, of all processes together
    NoiseLevels levels;
    Checkpointing checkpointing;
    bool cuda_graph = false;  // a single process on a GPU records a pass once for each shape
  };
  // `encoder` reads ids and gets gradients too if its parameters need them; null: the source has
  // rows of text. `samples` may be null. All references must outlive the object.
  FlowObjective(Transformer& transformer, Umt5Encoder* encoder, ClipSource& source,
                const TrainingRanks& ranks, SampleClips* samples, const Options& options);

  Pass add_gradients() override;
  nlohmann::json state() const override;
  void restore(const nlohmann::json& state, const std::string& origin) override;

  // The mean loss of the held-out clips, "validation_loss". Clip i of n has the level of the
  // quantile (i + 1/2) / n of those that are drawn in training, and noise of its own. Each is
  // computed alone, so that a mesh changes nothing but the order of sums.
  Scalars validate() override;

  int64_t sample_interval() const override;
  void sample(int64_t step) override;

 private:
  at::Tensor loss_of(const ClipBatch& batch, const at::Tensor& noise, const at::Tensor& sigma,
                     const Execution& run);
  at::Tensor held_out_loss(int64_t i);
  double flops_of(const Grid& grid);

  Transformer& transformer_;
  Umt5Encoder* encoder_;
  ClipSource& source_;
  const TrainingRanks& ranks_;
  SampleClips* samples_;
  Options options_;
  TokenTablesByGrid tables_;
  TrainingBlocks blocks_;
  RecordedFunction recorded_;
  std::map<Grid, double> flops_;
  int64_t passes_ = 0;  // so far
};

}  // namespace ospnext
