// Jobs for an open model: videos of several sizes with several adapters, and some that are
// cancelled.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/text_to_video.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {

// Keeps the last latent and video.
struct LastVideo : VideoReceiver {
  at::Tensor denoised, video;
  void latent(size_t, const at::Tensor& latent) override { denoised = latent.clone(); }
  void frames(size_t, const at::Tensor& frames) override {
    video = video.defined() ? torch::cat({video, frames}, 1) : frames.clone();  // [3, n, H, W]
  }
  void finished(size_t) override {}
};

// Cancels a job when `step` of its steps are done.
class CancelAtStep : public StageWatcher {
 public:
  CancelAtStep(CancellationToken& token, int64_t step) : token_(token), step_(step) {}
  void stepped(const Stage& stage) override {
    if (stage.kind == Stage::Kind::kDenoise && --step_ == 0) {
      token_.cancel();
    }
  }

 private:
  CancellationToken& token_;
  int64_t step_;
};

struct VideoJob {
  std::string prompt;
  int64_t width, height, num_frames;
  std::vector<std::pair<std::string, double>> adapters;  // files and strengths
  int64_t cancelled_at = 0;                              // step; 0: not cancelled
  int canceller = 0;                                     // the rank that is told
};

// A sparse model with four heads in a folder, with two LoRAs beside it, and ten jobs for it.
class OpenModelJobs {
 public:
  OpenModelJobs() {
    TransformerConfig config = tiny_transformer_config();
    config.num_heads = 4;
    config.skiparse_model_type = "dual_end";
    config.num_layers = 8;
    config.num_full_blocks = 4;
    write_tiny_diffusers_model(folder_ / "model", config);
    for (const char* name : {"a", "b"}) {
      torch::manual_seed(name[0]);
      const std::string linear = std::string("diffusion_model.blocks.") +
                                 (name[0] == 'a' ? "0.self_attn.q" : "3.cross_attn.v");
      save_safetensors(folder_ / (std::string(name) + ".safetensors"),
                       {{linear + ".lora_A.weight", torch::randn({4, config.dim}) * 0.2},
                        {linear + ".lora_B.weight", torch::randn({config.dim, 4}) * 0.2},
                        {linear + ".alpha", torch::tensor(4.0f)}});
    }
  }

  std::vector<VideoJob> jobs() const {
    return {{"a red ball", 48, 32, 5, {}},
            {"a red ball", 48, 32, 5, {{"a", 1.0}}},
            {"a blue cube spins", 32, 48, 5, {{"b", 0.5}}},
            {"a blue cube spins", 32, 48, 5, {{"b", 0.5}}, 1, 1},
            {"a red ball", 64, 32, 1, {{"a", 0.5}, {"b", 1.0}}},
            {"grass", 48, 32, 5, {}, 2, 0},
            {"a red ball", 48, 32, 5, {{"a", 1.0}}},
            {"grass", 48, 32, 9, {{"b", -1.0}}},
            {"a red ball", 48, 32, 5, {{"a", 1.0}}, 2, 3},
            {"a red ball", 48, 32, 5, {}}};
  }

  ModelFileSource source() const {
    return ModelFileSource(find_model_files({.model = folder_ / "model"}));
  }

  // Runs a job on `model`. Returns its video, or an undefined tensor if it was cancelled.
  at::Tensor run(VideoModel& model, const VideoJob& job) const {
    GenerationConfig config;
    config.width = job.width, config.height = job.height, config.num_frames = job.num_frames;
    config.steps = 3;
    config.negative_prompt = "";
    std::vector<AdapterUse> adapters;
    for (const auto& [name, strength] : job.adapters) {
      adapters.emplace_back(model.read_adapter(folder_ / (name + ".safetensors")), strength);
    }
    model.set_adapters(adapters);
    CancellationToken token;
    const ProcessGroup& all = model.ranks().world->all();
    const bool is_told = all.rank() == job.canceller % all.size();
    CancelAtStep canceller(token, is_told ? job.cancelled_at : 0);
    Progress progress(nullptr, false, &canceller);
    LastVideo last;
    try {
      make_videos(model, config, {{.prompt = job.prompt, .seed = 7, .noise = {}}}, last,
                  {progress, token});
    } catch (const Cancelled&) {
      return {};
    }
    return model.ranks().leads() ? last.video : at::zeros({1});
  }

 private:
  const TemporaryFolder folder_;
};

}  // namespace ospnext
