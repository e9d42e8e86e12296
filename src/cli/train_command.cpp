// ospnext train-vae, ospnext train and ospnext rl.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/commands.h"
#include "parallel/process_place.h"
#include "rl/ospnext_rl_yaml.h"
#include "rl/policy_training.h"
#include "train/flow_training.h"
#include "train/vae_training.h"

namespace ospnext {
namespace {

bool leads() {
  return process_place().rank == 0;
}

// Of several processes, only the first one shows progress.
Progress terminal_progress() {
  return Progress(leads() ? &std::cerr : nullptr, isatty(STDERR_FILENO) != 0);
}

void set_order_of_sums(const TrainingConfig& config) {
  if (config.deterministic) {
    compute_deterministically();
  }
}

void say_paused(const std::string& output) {
  std::cout << "stopped after --max-seconds; the same command goes on from " << output
            << "/checkpoints\n";
}

// The end of a training that may be of a LoRA.
void say_done(bool finished, const std::string& output, bool is_lora) {
  if (!leads()) {
    return;
  }
  if (!finished) {
    say_paused(output);
    return;
  }
  std::cout << (is_lora ? "LoRA: " + output + "/lora\n" : "model: " + output + "/model\n");
}

}  // namespace

void run_train_vae(const Arguments& arguments, const CancellationToken& cancel) {
  VaeTrainingConfig config;
  if (!parse_flags("train-vae", "Train a video VAE on procedural clips.", arguments, config)) {
    return;
  }
  set_order_of_sums(config);
  Progress progress = terminal_progress();
  const auto quality = train_vae(config, progress, cancel);
  if (!quality) {
    say_paused(config.output);
    return;
  }
  std::printf("held-out clips: %.2f dB on average, %.2f dB at the worst frame position\n",
              quality->mean_db, quality->worst_position_db());
  std::cout << "VAE: " << config.output << "/vae\n";
}

void run_train(const Arguments& arguments, const CancellationToken& cancel) {
  FlowTrainingConfig config;
  if (!parse_flags("train", "Train a transformer and its text encoder on procedural clips.",
                   arguments, config)) {
    return;
  }
  set_order_of_sums(config);
  Progress progress = terminal_progress();
  const bool finished = train_flow(config, progress, cancel);
  say_done(finished, config.output, config.lora.active());
}

void run_rl(const Arguments& arguments, const CancellationToken& cancel) {
  RlConfig config;
  const auto translate = [](const nlohmann::json& fields, const std::filesystem::path& file) {
    return is_ospnext_rl_yaml(fields)
               ? rl_fields_from_ospnext_yaml(fields, file, process_place().size)
               : fields;
  };
  const auto given =
      read_flags("rl",
                 "Improve a model by rewards for its videos, with Mix-GRPO. --config also reads "
                 "OSP-Next's YAML files of reinforcement learning.",
                 flags_of(config), arguments, translate);
  if (!given) {
    return;
  }
  given->apply(config);
  Progress progress = terminal_progress();
  const bool finished = train_policy(config, progress, cancel);
  say_done(finished, config.output, config.lora.active());
}

}  // namespace ospnext
