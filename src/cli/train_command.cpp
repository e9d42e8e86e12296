// ospnext train-vae and ospnext train.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/commands.h"
#include "parallel/process_place.h"
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

void say_paused(const TrainingConfig& config) {
  std::cout << "stopped after --max-seconds; the same command goes on from " << config.output
            << "/checkpoints\n";
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
    say_paused(config);
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
  if (!leads()) {
    return;
  }
  if (!finished) {
    say_paused(config);
    return;
  }
  std::cout << (config.lora.active() ? "LoRA: " + config.output + "/lora\n"
                                     : "model: " + config.output + "/model\n");
}

}  // namespace ospnext
