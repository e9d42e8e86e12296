// Where the clips and captions of a training come from.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "core/torch/torch.h"

namespace ospnext {

// Clips of one shape with their captions: as ids for a text encoder that runs in the training, or
// as rows of one that ran before.
struct ClipBatch {
  at::Tensor latent;     // [B, z, F, h, w] float32, clean and normalised, on the training's device
  at::Tensor ids = {};   // [B, T] int64, padded with 0; undefined: there is `text`
  at::Tensor text = {};  // [B, T, D], zero past each caption; undefined: there are `ids`
};

// The clips first, ..., first + count - 1 of a batch of `whole`.
struct BatchPart {
  int64_t first, count, whole;
};

// A source says which clips make up each batch; its processes read only their own. So the batches
// are the same on every mesh: what is drawn, for example an order of files, is drawn for the whole
// batch, or for each clip by itself.
class ClipSource {
 public:
  virtual ~ClipSource() = default;

  // This process's part of the next batch, of which all clips have one shape. All processes take a
  // part of each batch, and some the same.
  virtual ClipBatch next(const BatchPart& part) = 0;

  // Clips that are never in a batch, for validation, and one of them, as a batch of its own.
  virtual int64_t held_out_clips() const { return 0; }
  virtual ClipBatch held_out(int64_t /*i*/) { TORCH_CHECK(false, "no clips are held out"); }

  // Where next() goes on: saved in checkpoints, and the same in all processes.
  virtual nlohmann::json state() const = 0;
  // Throws InputError, beginning with `origin`, for a state of another kind.
  virtual void restore(const nlohmann::json& state, const std::string& origin) = 0;
};

}  // namespace ospnext
