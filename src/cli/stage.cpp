// ospnext stage: runs one stage of the pipeline on files.
#include "cli/stage.h"

#include <iostream>

namespace ospnext {

// To add a stage, add a line here.
const std::vector<Command>& stages() {
  static const std::vector<Command> list = {
      {"encode-text", "prompts to token ids and embeddings", run_stage_encode_text},
      {"denoise", "latent, text and time to velocity: one pass of the transformer",
       run_stage_denoise},
      {"gradients", "latent, noise, text and noise level to the training loss and its gradients",
       run_stage_gradients},
      {"encode-video", "video to latent", run_stage_encode_video},
      {"decode-latent", "latent to video", run_stage_decode_latent},
      {"schedule", "noise levels of a run, and the sampler on given velocities",
       run_stage_schedule},
      {"noise-levels", "random draws to the noise levels of a training", run_stage_noise_levels},
      {"optimizer", "gradient norms, parameters or gradients to what a training makes of them",
       run_stage_optimizer},
      {"sde-step", "latent and velocity to the next latent with noise, and how likely it is",
       run_stage_sde_step},
      {"rewards", "videos and prompts to rewards", run_stage_rewards},
      {"advantages", "rewards of groups to advantages", run_stage_advantages},
      {"policy-loss", "log-probabilities and advantages to the loss of a policy and its gradients",
       run_stage_policy_loss},
      {"hif8", "numbers to HiFloat8 codes and values", run_stage_hif8},
      {"skiparse", "tokens from one layout into another", run_stage_skiparse},
      {"captions", "captions of the procedural world", run_stage_captions},
  };
  return list;
}

void run_stage(const Arguments& arguments, const CancellationToken& cancel) {
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    std::cout << "Usage: ospnext stage STAGE [flags]\n\nStages:\n" << command_list(stages());
    return;
  }
  run_command(stages(), "ospnext stage", arguments, cancel);
}

}  // namespace ospnext
