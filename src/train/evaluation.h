// Measures how well a model of the procedural world follows its captions: samples clips, measures
// their frames, counts the correct attributes.
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
  int64_t rendered = 100;     // of each row that are also rendered and reconstructed
  int64_t vae_clips = 64;     // held-out clips that the VAE reconstructs; 0: none
  int64_t batch_size = 16;    // clips denoised together
  uint64_t seed = 1;

  // Throws InputError naming flag, value and rule.
  void check() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("clips", clips, "one-object clips of each row");
    field("two_objects", two_objects, "two-object clips of each row (0: no such rows)");
    field("rendered", rendered,
          "clips of each row that are also rendered and reconstructed (0: none)");
    field("vae_clips", vae_clips, "held-out clips that the VAE reconstructs (0: none)");
    field("batch_size", batch_size, "clips denoised together");
    field("seed", seed, "seed of captions and noise");
  }
};

// The attributes by which a clip is judged. Of two objects, both must be right. Background means
// colour and pattern.
inline constexpr std::array<const char*, 6> kAttributes = {"background", "colour", "size",
                                                           "shape",      "motion", "all five"};

// One kind of clips, and for each attribute how many of the clips were right.
struct EvaluationRow {
  std::string name;
  int64_t clips = 0;
  std::array<int64_t, kAttributes.size()> right{};

  // Adds one clip: compares its measurement with its specification.
  void add(const ClipSpec& clip, const MeasuredClip& measured);
};

// A sampled clip, its specification and its measurement.
struct EvaluatedClip {
  const std::string& row;
  const std::string& caption;
  uint64_t seed;  // of its initial noise
  const ClipSpec& asked;
  const MeasuredClip& measured;
};

// Wall time by kind of work, in seconds.
struct EvaluationSeconds {
  double sampling = 0;  // encoding texts and denoising
  double decoding = 0;
  double drawing = 0;  // rendering clips, and the VAE on rendered clips
  double measuring = 0;
};

// Callbacks of evaluate_prompt_following().
struct EvaluationWatcher {
  std::function<void(const EvaluatedClip&)> on_clip;
  std::function<void(const EvaluationRow&)> on_row;
};

// Samples clips and measures them. Calls watcher.on_clip for each sampled clip and watcher.on_row
// for each row when it is complete. The rows, in order:
//   - one object: seen captions, then held-out captions;
//   - two objects: seen captions, then held-out captions (if config.two_objects > 0);
//   - each one-object clip compared with the next clip's caption (the level of chance);
//   - rendered clips with one object (the accuracy of the measurement itself), and the same clips
//     after the VAE (the accuracy after its loss of detail), if config.rendered > 0;
//   - the same for two objects.
// Returns the time by kind of work. Throws InputError, Cancelled.
EvaluationSeconds evaluate_prompt_following(const ModelFiles& files, const ComputeOptions& compute,
                                            const GenerationConfig& generation,
                                            const EvaluationConfig& config,
                                            const EvaluationWatcher& watcher, Progress& progress,
                                            const CancellationToken& cancel);

// The first two lines of a Markdown table of rows, and the line of one row: for each attribute the
// per cent right and its 95 % interval.
std::string evaluation_header();
std::string evaluation_line(const EvaluationRow& row);

// The first line of a CSV file of clips, and the line of one clip: its row, seed and caption,
// whether each attribute is right (1 or 0), and all measured attributes in the words of the
// captions.
std::string details_header();
std::string details_line(const EvaluatedClip& clip);

// Compares a model in two precisions: samples `clips` clips in `compute` and in `reference`, from
// the same noise and the same captions (seen, one object). Returns the PSNR of each clip in dB
// (over all frames; peak-to-peak range 2; at most 100). Sampling is as in
// evaluate_prompt_following(); each precision also applies to the VAE.
// Throws InputError, Cancelled.
std::vector<double> compare_precisions(const ModelFiles& files, const ComputeOptions& compute,
                                       const ComputeOptions& reference,
                                       const GenerationConfig& generation, int64_t clips,
                                       int64_t batch_size, uint64_t seed, Progress& progress,
                                       const CancellationToken& cancel);

// Wilson's 95 % interval of the share right / total, total > 0: {low, high} in [0, 1].
// Source: Wilson 1927, Probable inference, the law of succession, and statistical inference.
std::array<double, 2> wilson_interval(int64_t right, int64_t total);

}  // namespace ospnext
