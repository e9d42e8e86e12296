// The settings of a training by reinforcement learning.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/generation_config.h"
#include "engine/join_world.h"
#include "packages/model_fields.h"
#include "rl/advantages.h"
#include "rl/guards.h"
#include "rl/policy_loss.h"
#include "rl/rewards/reward_list.h"
#include "rl/sde_window.h"
#include "schedulers/sde_step.h"
#include "train/ema.h"
#include "train/lora_training.h"
#include "train/optimizer.h"
#include "train/training_blocks.h"
#include "train/training_ranks.h"

namespace ospnext {

// How videos are made for training: size, steps, guidance, and how many of each prompt.
struct RolloutConfig {
  int64_t width = 1280;  // pixels
  int64_t height = 720;  // pixels
  int64_t num_frames = 81;
  int64_t steps = 20;
  double shift = 1.0;
  double guidance_scale = 5.0;
  std::string negative_prompt = kWanNegativePrompt;
  bool guidance_in_update = true;
  bool negative_gradients = false;  // PolicyTexts::both_gradients
  int64_t sample_batch_size = 4;    // videos made together, on each part of the mesh
  int64_t batches_per_epoch = 4;
  int64_t group_size = 4;      // videos of a prompt
  int64_t group_rollouts = 1;  // rollouts of each batch
  std::string sde_kind = "osp";
  double eta = 0;                            // 0: default_eta()
  int64_t noise_frames = 1, noise_side = 1;  // NoiseCells
  bool same_start = false;
  SdeWindowConfig window;

  // Counts that follow from the fields; those of an epoch are of one part of the mesh.
  int64_t videos_of_a_group() const { return group_size * group_rollouts; }
  int64_t rollouts_of_an_epoch() const { return batches_per_epoch * group_rollouts; }
  int64_t videos_of_an_epoch() const { return sample_batch_size * rollouts_of_an_epoch(); }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("width", width, "pixels, a multiple of 16");
    field("height", height, "pixels, a multiple of 16");
    field("num_frames", num_frames, "frames, 4k + 1");
    field("steps", steps, "denoising steps of a rollout");
    field("shift", shift, "time shift; larger spends more steps at high noise");
    field("guidance_scale", guidance_scale, "strength of the prompt; up to 1: no guidance");
    field("negative_prompt", negative_prompt, "what the videos should not show");
    field("guidance_in_update", guidance_in_update, "use guidance in the updates, too");
    field("negative_gradients", negative_gradients,
          "let the pass with the negative prompt have gradients, too; in OSP-Next it has none");
    field("sample_batch_size", sample_batch_size,
          "videos that a part of the mesh makes at the same time");
    field("batches_per_epoch", batches_per_epoch, "such batches in an epoch");
    field("group_size", group_size, "videos of a prompt, which are compared with each other");
    field("group_rollouts", group_rollouts, "rollouts of each batch of prompts");
    field("sde_kind", sde_kind, "noise of the steps that add some: osp, mix or dance");
    field("eta", eta, "strength of the noise of mix and dance; 0: their authors'");
    field("noise_frames", noise_frames, "frames of the latent that share the noise of a step");
    field("noise_side", noise_side,
          "rows and columns of the latent that share the noise of a step");
    field("same_start", same_start, "begin all videos of a prompt from the same noise");
    window.visit(field);
  }
};

// How the policy learns from rollouts.
struct UpdateConfig {
  int64_t train_batch_size = 4;  // videos of a pass, on each part of the mesh
  int64_t inner_epochs = 1;      // passes over the videos of an epoch
  double timestep_fraction = 1;  // share of the noisy steps, with nft of the levels, to train
  std::string advantages = "osp";
  bool per_prompt_advantages = true;  // false: all videos are one group
  bool global_std = false;            // SpreadOf::kAll
  PolicyLossConfig loss;
  double nft_beta = 1;  // ForwardLossConfig::beta
  double learning_rate = 5e-4;
  AdamWConfig adamw{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-15, .weight_decay = 1e-2};
  int64_t accumulate = 1;
  double max_gradient_norm = 1.0;
  bool adaptive_clip = true;
  EmaConfig ema;

  SpreadOf spread() const { return global_std ? SpreadOf::kAll : SpreadOf::kGroup; }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("train_batch_size", train_batch_size, "videos of a pass on a part of the mesh");
    field("inner_epochs", inner_epochs, "passes over the videos of an epoch");
    field("timestep_fraction", timestep_fraction,
          "share of the noisy steps that are trained, from the first on; with nft, of all steps");
    field("advantages", advantages,
          "osp: of the summed rewards; mix: of each reward by itself, then summed");
    field("per_prompt_advantages", per_prompt_advantages,
          "compare the videos of a prompt with each other, instead of all");
    field("global_std", global_std, "divide osp advantages by the spread of all videos");
    loss.visit(field);
    field("nft_beta", nft_beta,
          "with nft: how far its good and its bad policy are from that of the rollouts");
    field("learning_rate", learning_rate, "learning rate");
    adamw.visit(field);
    field("accumulate", accumulate, "passes of an optimizer step, apart from the noisy steps");
    field("max_gradient_norm", max_gradient_norm,
          "gradients are scaled down to this norm; the first one of adaptive_clip");
    field("adaptive_clip", adaptive_clip,
          "let the largest norm follow the norms of the gradients, as OSP-Next does");
    ema.visit(field, "ema_");
  }
};

// The defaults are those of OSP-Next's training program (train/train_osp_RL.py).
struct RlConfig {
  ModelFields model;
  std::string prompts;       // file, one a line
  std::string eval_prompts;  // the same
  std::string output = "output_rl_lora";
  std::string device = "auto";
  std::string precision = "bf16";
  uint64_t seed = 42;
  int64_t epochs = 1000;
  RolloutConfig rollout;
  UpdateConfig update;
  // Without a LoRA, all weights are trained.
  LoraTrainingFields lora{.lora_rank = 32, .lora_alpha = 64, .initial_lora = {}};
  // The LoRA acts on latents with this much noise or more; of `initial_lora`, its own is taken.
  double lowest_noise_level = 0;
  std::vector<std::string> reward;
  std::vector<std::string> watch;
  std::vector<std::string> guard;
  int64_t guard_epochs = 5;
  RewardSettings scoring;
  int64_t eval_every = 10000;  // optimizer steps
  int64_t eval_steps = 50;     // denoising steps
  std::string eval_format = "mp4";
  int64_t save_every = 100;  // epochs
  int64_t log_interval = 1;
  double max_seconds = 0;  // stop with a checkpoint after this time; 0: never
  CheckpointingFields checkpointing{.recompute = "all", .offload_activations = false};
  TrainingMeshFields mesh;
  WorldFields world;

  // Throws InputError naming field, value and rule, for what is wrong whatever model and mesh are.
  void check() const;
  // Of this, how videos are made and learnt from, by whichever processes.
  void check_method() const;
  // The rule of noisy steps, without first_sigma. Throws InputError.
  SdeRule sde_rule() const;
  // Throws InputError.
  std::vector<Guard> guards() const;
  // The LoRA to train: with `initial_lora` that one alone, whatever the other fields say.
  LoraTrainingFields trained_lora() const;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("prompts", prompts, "file of prompts to train on, one a line");
    field("eval_prompts", eval_prompts, "file of prompts that show how the training goes");
    field("output", output, "folder of checkpoints, log and the finished LoRA");
    field("device", device, "cpu, cuda or cuda:N; auto: cuda where there is a GPU");
    field("precision", precision, "arithmetic of rollouts and updates: float32, bf16 or hif8");
    field("seed", seed, "seed of every random draw");
    field("epochs", epochs, "rollouts with their updates");
    rollout.visit(field);
    update.visit(field);
    lora.visit(field);
    field("lowest_noise_level", lowest_noise_level,
          "the LoRA acts on latents with this noise level (0 to 1) or a higher one; 0: on all");
    field("reward", reward, reward_help().c_str());
    field("watch", watch, "rewards that are logged, but not trained on; named as `reward`");
    scoring.visit(field);
    field("guard", guard,
          "NAME:LOW:HIGH, may be repeated: ends the training when the mean of the reward, or of "
          "diversity, is out of these bounds; 0.5x is half of what it was in the first epochs");
    field("guard_epochs", guard_epochs, "the last and the first epochs that `guard` compares");
    field("eval_every", eval_every, "optimizer steps between two rounds of `eval_prompts`");
    field("eval_steps", eval_steps, "denoising steps of these rounds");
    field("eval_format", eval_format, "ending of their clips' files, such as mp4 or y4m");
    field("save_every", save_every, "epochs between two checkpoints");
    field("log_interval", log_interval, "optimizer steps between two lines of the log");
    field("max_seconds", max_seconds,
          "stop with a checkpoint after the epoch in which so many seconds have passed (0: never)");
    checkpointing.visit(field);
    mesh.visit(field);
    world.visit(field);
  }
};

}  // namespace ospnext
