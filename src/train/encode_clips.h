// Encodes a clip folder once, so that training needs neither the VAE nor the text encoder.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "packages/model_fields.h"

namespace ospnext {

struct ClipEncodingConfig {
  std::string videos;
  std::string output;
  ModelFields model;
  std::string device = "auto";
  std::string precision = "auto";
  std::string vae_tile = "none";
  std::vector<std::string> sizes = {"480x832"};  // height x width
  int64_t num_frames = 81;
  double fps = 16;
  int64_t stride = 0;
  int64_t text_rows = 512;
  double shard_size = 1;
  bool skip_unusable = false;

  // Throws InputError naming field, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("videos", videos,
          "folder of NAME.mp4 with NAME.txt or with metadata.jsonl, .json or .csv; or such a list");
    field("output", output, "folder of encoded clips to write or to go on with");
    model.visit(field);
    field("device", device, "cpu, cuda or cuda:N; auto: cuda where there is a GPU");
    field("precision", precision,
          "arithmetic, and dtype of what is written: float32 or bf16; auto: float32 on the CPU, "
          "bf16 on CUDA");
    field("vae_tile", vae_tile, "encode in tiles: SIZE,STRIDE in pixels such as 256,192; or none");
    field("sizes", sizes,
          "frame sizes, height x width; a video gets the one of the nearest shape that it covers");
    field("num_frames", num_frames, "frames of a clip, 1 more than a multiple of 4");
    field("fps", fps, "frames a second that are taken from a video; 0: all that it has");
    field("stride", stride,
          "frames from the start of a clip to that of the next one of the same video; 0: only the "
          "first clip of each");
    field("text_rows", text_rows, "tokens of a caption at most, its end included");
    field("shard_size", shard_size, "GB (1e9 bytes) of clips that a file holds at most, about");
    field("skip_unusable", skip_unusable,
          "skip videos that cannot be used, with a warning, instead of stopping");
  }
};

struct EncodedCounts {
  int64_t videos = 0;   // in the clip folder
  int64_t skipped = 0;  // that cannot be used
  int64_t clips = 0;    // in the output, those of earlier runs among them
};

// Encodes the clips that `output` does not have yet. Clip n of a video are the frames n·stride to
// n·stride + num_frames - 1 of those taken at `fps` (FrameSampling), scaled and cut by fitted().
// The latent is the mean of the VAE's distribution, normalised; Wan and OSP-Next train on it too.
// Memory: both encoders, two clips, and the encoded clips of one shard. Whatever ends it leaves the
// clips that are done in the folder, and the same call goes on from there. Throws InputError,
// RunError and Cancelled.
EncodedCounts encode_clips(const ClipEncodingConfig& config, Progress& progress,
                           const CancellationToken& cancel);

}  // namespace ospnext
