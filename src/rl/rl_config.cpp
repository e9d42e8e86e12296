#include "rl/rl_config.h"

#include <array>

#include "core/choice.h"
#include "core/number_check.h"
#include "rl/rewards/reward_list.h"

namespace ospnext {
namespace {

constexpr int64_t kMost = 1'000'000'000;
constexpr double kMostShift = 1000;

void check_rollout(const RolloutConfig& config) {
  constexpr int64_t kLargestSide = 1 << 14, kMostFrames = 100'001, kMostSteps = 10000;
  check_range("`width`", config.width, int64_t{16}, kLargestSide);
  check_range("`height`", config.height, int64_t{16}, kLargestSide);
  check_range("`num_frames`", config.num_frames, int64_t{1}, kMostFrames);
  check_range("`steps`", config.steps, int64_t{1}, kMostSteps);
  check_range("`shift`", config.shift, 1e-3, kMostShift);
  check_range("`guidance_scale`", config.guidance_scale, 0.0, 1000.0);
  check_range("`sample_batch_size`", config.sample_batch_size, int64_t{1}, kMost);
  check_range("`batches_per_epoch`", config.batches_per_epoch, int64_t{1}, kMost);
  check_range("`group_size`", config.group_size, int64_t{2}, kMost);
  check_range("`group_rollouts`", config.group_rollouts, int64_t{1}, kMost);
  config.window.check(config.steps);
}

void check_update(const UpdateConfig& config) {
  constexpr std::array<std::pair<const char*, bool>, 2> kForms = {{{"osp", true}, {"mix", false}}};
  check_range("`train_batch_size`", config.train_batch_size, int64_t{1}, kMost);
  check_range("`inner_epochs`", config.inner_epochs, int64_t{1}, kMost);
  check_range("`timestep_fraction`", config.timestep_fraction, 1e-6, 1.0);
  if (!one_of("`advantages`", config.advantages, kForms) && config.global_std) {
    throw InputError("`global_std`: found with the advantages mix, expected with osp only");
  }
  config.loss.check();
  check_range("`nft_beta`", config.nft_beta, 1e-6, 1e6);
  check_range("`learning_rate`", config.learning_rate, 0.0, 10.0);
  config.adamw.check();
  check_range("`accumulate`", config.accumulate, int64_t{1}, kMost);
  check_range("`max_gradient_norm`", config.max_gradient_norm, 1e-9, 1000.0);
  config.ema.check("ema_");
}

}  // namespace

void RlConfig::check_method() const {
  check_range("`epochs`", epochs, int64_t{1}, kMost);
  check_rollout(rollout);
  static_cast<void>(sde_rule());
  check_update(update);
  trained_lora().check();
  check_range("`lowest_noise_level`", lowest_noise_level, 0.0, 1.0);
  if (lowest_noise_level > 0 && (!lora.active() || !lora.initial_lora.empty())) {
    throw InputError(std::string("`lowest_noise_level`: found ") +
                     (lora.active() ? "with `initial_lora`, which has its own" : "without a LoRA") +
                     ", expected with a new LoRA (`lora_rank`)");
  }
  checkpointing.parse();
  world.check();
}

void RlConfig::check() const {
  if (prompts.empty()) {
    throw InputError("`prompts`: missing, expected a file of prompts, one a line");
  }
  if (output.empty()) {
    throw InputError("`output`: missing, expected a folder");
  }
  check_method();
  parse_rewards(reward, scoring);
  if (!watch.empty()) {
    parse_rewards(watch, scoring);
  }
  static_cast<void>(guards());
  check_range("`guard_epochs`", guard_epochs, int64_t{1}, int64_t{10'000});
  check_range("`eval_every`", eval_every, int64_t{1}, kMost);
  check_range("`eval_steps`", eval_steps, int64_t{1}, int64_t{10000});
  check_range("`save_every`", save_every, int64_t{1}, kMost);
  check_range("`log_interval`", log_interval, int64_t{1}, kMost);
  check_range("`max_seconds`", max_seconds, 0.0, 1e9);
}

std::vector<Guard> RlConfig::guards() const {
  std::vector<std::string> names;
  for (const auto* list : {&reward, &watch}) {
    for (const std::string& text : *list) {
      names.push_back(reward_name(text));
    }
  }
  return parse_guards(guard, names);
}

SdeRule RlConfig::sde_rule() const {
  const SdeKind kind = one_of("`sde_kind`", rollout.sde_kind, kSdeKinds);
  check_range("`eta`", rollout.eta, 0.0, 100.0);
  if (kind == SdeKind::kOsp && rollout.eta > 0) {
    throw InputError("`eta`: found with the kind osp, expected with mix or dance only");
  }
  check_range("`noise_frames`", rollout.noise_frames, int64_t{1}, kMost);
  check_range("`noise_side`", rollout.noise_side, int64_t{1}, kMost);
  return {.kind = kind,
          .eta = rollout.eta > 0 ? rollout.eta : default_eta(kind),
          .first_sigma = 0,
          .cells = {.frames = rollout.noise_frames, .side = rollout.noise_side}};
}

LoraTrainingFields RlConfig::trained_lora() const {
  if (lora.initial_lora.empty()) {
    return lora;
  }
  LoraTrainingFields initial;
  initial.initial_lora = lora.initial_lora;
  return initial;
}

}  // namespace ospnext
