// ospnext stage rewards: videos and prompts to rewards.
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/number_check.h"
#include "engine/prompts.h"
#include "io/weights.h"
#include "rl/rewards/reward_list.h"

namespace ospnext {
namespace {

struct RewardsStage {
  std::vector<std::string> reward;
  std::string prompts;
  RewardSettings scoring;
  std::string input;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("reward", reward, reward_help().c_str());
    field("prompts", prompts, "file of prompts, one a line, one for each video");
    scoring.visit(field);
    field("input", input, "safetensors with video [B, 3, T, H, W] in [-1, 1]");
    common.visit(field);
  }
};

// The parts of one reward, by name: [B] float32 each. Throws InputError for a video without score.
std::map<std::string, at::Tensor> parts_of(const WeightedReward& weighted, const at::Tensor& videos,
                                           const std::vector<std::string>& prompts,
                                           const CancellationToken& cancel) {
  const auto scores = weighted.reward->score(videos, prompts, cancel);
  std::map<std::string, at::Tensor> parts;
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!scores[i].error.empty()) {
      throw InputError("`reward` " + weighted.name + ": video " + std::to_string(i) + ": " +
                       scores[i].error);
    }
    for (const auto& [name, number] : scores[i].parts) {
      at::Tensor& row =
          parts.emplace(name, at::full({videos.size(0)}, NAN, at::kFloat)).first->second;
      row[static_cast<int64_t>(i)] = number;
    }
  }
  return parts;
}

}  // namespace

void run_stage_rewards(const Arguments& arguments, const CancellationToken& cancel) {
  RewardsStage config;
  if (!parse_flags("stage rewards",
                   "Write rewards [B, K] and weights [K] of videos, as stage advantages reads "
                   "them, and reward.NAME.PART [B] of each number behind them.",
                   arguments, config)) {
    return;
  }
  const auto rewards = parse_rewards(config.reward, config.scoring);
  config.common.check();
  StageInput input(config.input);
  const at::Tensor videos =
      ((input.floats("video", "B,3,T,H,W").to(at::kFloat) + 1) / 2).clamp(0, 1);
  input.warn_of_rest();
  if (config.prompts.empty()) {
    throw InputError("`prompts`: missing, expected a file with a prompt for each video");
  }
  const std::vector<std::string> prompts = read_prompts(config.prompts);
  if (static_cast<int64_t>(prompts.size()) != videos.size(0)) {
    throw InputError("`prompts`: found " + std::to_string(prompts.size()) + " in " +
                     config.prompts + ", expected " + std::to_string(videos.size(0)) +
                     ", one for each video");
  }
  std::map<std::string, at::Tensor> result;
  std::vector<at::Tensor> totals;
  std::vector<float> weights;
  for (const WeightedReward& weighted : rewards) {
    const auto parts = parts_of(weighted, videos, prompts, cancel);
    for (const auto& [name, numbers] : parts) {
      result["reward." + weighted.name + "." + name] = numbers;
    }
    totals.push_back(parts.at("total"));
    weights.push_back(static_cast<float>(weighted.weight));
  }
  result["rewards"] = at::stack(totals, 1);  // [B, K]
  result["weights"] = at::tensor(weights);
  save_safetensors(config.common.output, result);
}

}  // namespace ospnext
