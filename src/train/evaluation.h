// Prompt following of a model of the procedural world: sample captions, measure the frames, count.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/cancel.h"
#include "core/progress.h"
#include "data/tiny_world/clip_measurement.h"
#include "engine/generation_config.h"
#include "packages/load_model.h"

namespace ospnext {

struct EvaluationConfig {
  int64_t clips = 400;        // of each row
  int64_t two_objects = 400;  // of each row of clips with two objects; 0: no such rows
  int64_t rendered = 100;     // of each one-object row that are also rendered and reconstructed
  int64_t vae_clips = 64;     // held-out clips that the VAE reconstructs; 0: none
  int64_t batch_size = 16;    // clips denoised together
  int64_t seed = 1;

  // Throws InputError naming flag, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("clips", clips, "one-object clips of each row");
    field("two_objects", two_objects, "two-object clips of each row (0: no such rows)");
    field("rendered", rendered,
          "one-object clips of each row that are also rendered and reconstructed (0: none)");
    field("vae_clips", vae_clips, "held-out clips that the VAE reconstructs (0: none)");
    field("batch_size", batch_size, "clips denoised together");
    field("seed", seed, "seed of captions and noise");
  }
};

// What a clip is judged by. Of two objects both must be right; background means colour and pattern.
inline constexpr std::array<const char*, 6> kAttributes = {"background", "colour", "size",
                                                           "shape",      "motion", "all five"};

// One kind of clips and how many of them were right, attribute by attribute.
struct EvaluationRow {
  std::string name;
  int64_t clips = 0;
  std::array<int64_t, kAttributes.size()> right{};

  // Compares what frames show with what the clip's caption says.
  void add(const ClipSpec& clip, const MeasuredClip& measured);
};

// A sampled clip and what was made of it.
struct EvaluatedClip {
  const std::string& row;
  const std::string& caption;
  uint64_t seed;  // of its noise
  const ClipSpec& asked;
  const MeasuredClip& measured;
};

// Where the time went.
struct EvaluationSeconds {
  double sampling = 0;  // text and denoising
  double decoding = 0;
  double drawing = 0;  // rendered clips, and these through the VAE
  double measuring = 0;
};

// What evaluate_prompt_following() tells while it runs.
struct EvaluationWatcher {
  std::function<void(const EvaluatedClip&)> on_clip;
  std::function<void(const EvaluationRow&)> on_row;
};

// Calls on_clip for each sampled clip, and hands over each row as soon as it is counted: seen and held-out captions with one object, two objects
// seen and held out, then each one-object clip against the next one's caption (chance), rendered clips
// (what the measurement itself gets right) and these through the VAE (what its loss of detail leaves).
// Throws InputError, Cancelled.
EvaluationSeconds evaluate_prompt_following(const ModelFiles& files, const ComputeOptions& compute,
                                            const GenerationConfig& generation,
                                            const EvaluationConfig& config,
                                            const EvaluationWatcher& watcher, Progress& progress,
                                            const CancellationToken& cancel);

// The two first lines of a Markdown table of rows, and the line of a row: per cent right and the 95 %
// interval of each attribute.
std::string evaluation_header();
std::string evaluation_line(const EvaluationRow& row);

// The first line of a CSV file of clips, and the line of a clip: its row, seed, caption, whether each
// attribute is right (1 or 0), and what was measured instead, in the caption's words.
std::string details_header();
std::string details_line(const EvaluatedClip& clip);

// How far clips of a model computed in two ways are apart, from the same noise and the same captions (of one object,
// seen): the PSNR (peak-to-peak range 2, over all frames; 100 dB at most) of each of `clips`. Sampling is that of
// evaluate_prompt_following(), each way with a VAE in its own arithmetic. Throws InputError, Cancelled.
std::vector<double> compare_precisions(const ModelFiles& files, const ComputeOptions& compute,
                                       const ComputeOptions& reference,
                                       const GenerationConfig& generation, int64_t clips,
                                       int64_t batch_size, int64_t seed, Progress& progress,
                                       const CancellationToken& cancel);

// Wilson's 95 % interval of a share of `right` among `total` > 0.
// Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
std::array<double, 2> wilson_interval(int64_t right, int64_t total);

}  // namespace ospnext
