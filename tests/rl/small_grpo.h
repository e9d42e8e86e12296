// A small reinforcement learning of a small random model, for tests.
#pragma once

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "io/output_file.h"
#include "io/weights.h"
#include "rl/policy_training.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {

class SmallGrpo {
 public:
  explicit SmallGrpo(const std::string& model_type = "dual_end") {
    TransformerConfig config = tiny_transformer_config();
    config.num_heads = 4;
    config.skiparse_model_type = model_type;
    config.num_layers = 8;
    config.num_full_blocks = 4;
    write_tiny_diffusers_model(folder_ / "model", config);
    write_text_file(folder_ / "prompts.txt", "a red ball\na blue cube spins\ngrass\n");
  }

  // Two epochs of two updates, of two rollouts with two prompts each.
  RlConfig config(const std::string& output) const {
    RlConfig config;
    config.output = folder_ / output;
    config.model.model = folder_ / "model";
    config.device = "cpu";
    config.precision = "float32";
    config.prompts = folder_ / "prompts.txt";
    config.reward = {"motion", "exposure:0.5"};
    config.watch = {"sharpness"};
    config.epochs = 2;
    config.rollout.width = 48, config.rollout.height = 32, config.rollout.num_frames = 5;
    config.rollout.steps = 4;
    config.rollout.guidance_scale = 3;
    config.rollout.sample_batch_size = 4;
    config.rollout.batches_per_epoch = 2;
    config.rollout.group_size = 2;
    config.rollout.window.sde_steps = 2;
    config.update.train_batch_size = 4;
    config.update.learning_rate = 1e-2;
    config.update.loss.kl_beta = 0.1;
    config.lora.lora_rank = 2;
    config.lora.lora_alpha = 4;
    return config;
  }

  std::filesystem::path folder() const { return folder_.path(); }

 private:
  const TemporaryFolder folder_;
};

inline bool train_quietly(const RlConfig& config) {
  Progress silent(nullptr, false);
  return train_policy(config, silent, CancellationToken());
}

// All numbers of the LoRA that a training has written, or those of its tensors with `part` in their
// names: [n]
inline at::Tensor lora_row(const RlConfig& config, const std::string& part = "") {
  std::vector<at::Tensor> all;
  for (const auto& [name, tensor] :
       read_tensors(std::filesystem::path(config.output) / "lora/adapter_model.safetensors")) {
    if (name.find(part) != name.npos) {
      all.push_back(tensor.flatten());  // [n]
    }
  }
  return at::cat(all);
}

// A column of a training's log.csv.
inline std::vector<double> log_column(const std::string& output, const std::string& name) {
  std::ifstream file(output + "/log.csv");
  std::string line, cell;
  std::getline(file, line);
  std::istringstream names(line);
  size_t column = 0;
  for (; std::getline(names, cell, ',') && cell != name; ++column) {
  }
  std::vector<double> values;
  while (std::getline(file, line)) {
    std::istringstream cells(line);
    for (size_t i = 0; i <= column; ++i) {
      std::getline(cells, cell, ',');
    }
    values.push_back(std::stod(cell));
  }
  return values;
}

}  // namespace ospnext
