// The request of `ospnext generate`, and the names of the files it writes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/generation_config.h"
#include "engine/join_world.h"
#include "engine/text_to_video.h"
#include "packages/model_fields.h"

namespace ospnext {

// Help of the field `output`: the formats there are.
const std::string& output_help();

struct GenerateConfig {
  std::string prompt;
  std::string prompts;
  GenerationConfig generation;
  uint64_t seed = 1024;
  int64_t seed_step = 1;
  int64_t num_videos = 1;
  ModelFields model;
  LiveLoraFields loras;
  std::string device = "auto";
  std::string precision = "auto";
  bool offload = false;
  std::string output = "video.mp4";
  bool skip_existing = false;
  int64_t preview = 0;  // steps between two previews; 0: none
  std::string initial_noise;
  int64_t initial_noise_index = -1;  // -1: the file holds one latent a video
  std::string save_latent;
  std::string save_video_tensor;
  std::string profile;
  MeshFields mesh;
  WorldFields world;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("prompt", prompt, "what the video should show");
    field("prompts", prompts, "file of prompts, one a line, instead of `prompt`");
    generation.visit(field);
    field(
        "seed", seed,
        "seed of the first video's noise, -1 to draw one; video i has seed + i * seed_step, modulo "
        "2^64");
    field("seed_step", seed_step, "what the seed grows by from one video to the next");
    field("num_videos", num_videos, "videos of each prompt");
    model.visit(field);
    loras.visit(field);
    field("device", device, "cpu, cuda or cuda:N; auto: cuda where there is a GPU");
    field("precision", precision,
          "float32, bf16, hif8, hif8-p8 or hif8-simulated; auto: float32 on the CPU, bf16 on CUDA");
    field("offload", offload, kOffloadHelp);
    field("output", output, output_help().c_str());
    field("skip_existing", skip_existing,
          "make only the videos that are not there, to go on after an interruption");
    field("preview", preview,
          "write a small PNG of the first frame, as estimated so far, every so many steps");
    field(
        "initial_noise", initial_noise,
        "safetensors with latent [n, 16, F, h, w], the noise of all videos, instead of the seed's");
    field("initial_noise_index", initial_noise_index,
          "which latent of `initial_noise`, counted from 0, to make a single video of");
    field("save_latent", save_latent, "safetensors for the denoised latent [n, 16, F, h, w]");
    field("save_video_tensor", save_video_tensor, "safetensors for the video [n, 3, T, H, W]");
    field("profile", profile,
          "JSON to write of when each stage, step, block and exchange ran, for chrome://tracing or "
          "Perfetto; a table of it is printed");
    mesh.visit(field);
    world.visit(field);
  }

  // Throws InputError for what is wrong without looking into the model.
  void check() const;
  // The videos to make, prompt after prompt, without noise. Throws InputError.
  std::vector<VideoSample> samples() const;
  // The configuration that makes only sample `index` of `samples`: its prompt, seed, noise and
  // file, and no further files.
  GenerateConfig of_sample(const std::vector<VideoSample>& samples, size_t index) const;
};

// "clip.mp4" -> "clip-2.mp4" for index 2 of several, unchanged when count is 1.
std::filesystem::path sample_output(const std::filesystem::path& output, size_t index,
                                    size_t count);

// The JSON file beside a video: "clip.mp4" -> "clip.json", "f/cat_%04d.png" -> "f/cat.json",
// "f/%04d.png" -> "f/video.json"; with -2 before .json for index 2 of several.
std::filesystem::path sidecar_file(const std::filesystem::path& output, size_t index, size_t count);

// The picture of an estimate after `done` steps, beside the JSON: "clip-preview-0010.png", with -2
// before -preview for index 2 of several.
std::filesystem::path preview_file(const std::filesystem::path& output, size_t index, size_t count,
                                   int64_t done);

}  // namespace ospnext
