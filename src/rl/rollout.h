// Rollouts: videos that the policy makes with noise in some steps, and what an update needs.
// Letters: B videos of a rollout, S steps with noise, C x F x h x w a latent.
#pragma once

#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "engine/video_model.h"
#include "rl/prompt_draws.h"
#include "rl/rollout_plan.h"

namespace ospnext {

// What a rollout makes.
struct RolloutRequest {
  std::vector<std::string> prompts;  // B, which are embedded
  std::vector<NoisePlace> places;    // B
  bool one_start = false;            // whether all videos of a prompt begin with the same noise
};

struct Rollout {
  RolloutRequest request;
  // Undefined without noisy steps:
  at::Tensor latents;    // [S + 1, B, C, F, h, w] float32: before each noisy step, after the last
  at::Tensor log_probs;  // [S, B] float64: of what each noisy step has drawn
  at::Tensor clean;      // [B, C, F, h, w] float32: the results
};

// The sampling of `ospnext generate`, with the steps of a plan. `generation` says size and
// guidance.
// Its steps, shift and scheduler are not used. All on the model's device. Throws Cancelled.
Rollout roll_out(VideoModel& model, const GenerationConfig& generation, const RolloutPlan& plan,
                 const RolloutRequest& request, const JobControl& job);

}  // namespace ospnext
