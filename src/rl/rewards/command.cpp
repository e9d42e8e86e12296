// The reward `command:PROGRAM`: the scores of another program.
#include <nlohmann/json.hpp>

#include "core/piped_program.h"
#include "rl/rewards/reward_kinds.h"

namespace ospnext {
namespace {

// videos [B, 3, F, H, W] in [0, 1] -> the bytes that the program reads
std::string request(const at::Tensor& videos, const std::vector<std::string>& prompts) {
  const nlohmann::json head = {{"videos", videos.size(0)},
                               {"frames", videos.size(2)},
                               {"height", videos.size(3)},
                               {"width", videos.size(4)},
                               {"prompts", prompts}};
  const at::Tensor pixels = videos
                                .permute({0, 2, 3, 4, 1})  // [B, F, H, W, 3]
                                .mul(255)
                                .add(0.5)
                                .floor()
                                .clamp(0, 255)
                                .to(at::kByte)
                                .contiguous();
  std::string text = head.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  return text.append(reinterpret_cast<const char*>(pixels.const_data_ptr<uint8_t>()),
                     static_cast<size_t>(pixels.numel()));
}

class CommandReward final : public Reward {
 public:
  CommandReward(std::string command, double seconds)
      : program_{.command = std::move(command), .seconds = seconds} {}

 private:
  std::vector<VideoScore> score_videos(const at::Tensor& videos,
                                       const std::vector<std::string>& prompts,
                                       const CancellationToken& cancel) const override {
    const std::string answer = run_piped(program_, request(videos, prompts), cancel);
    return parse_reward_scores(answer, prompts.size(), program_.command);
  }

  PipedProgram program_;
};

}  // namespace

std::unique_ptr<Reward> make_command_reward(const std::string& command, double seconds) {
  return std::make_unique<CommandReward>(command, seconds);
}

}  // namespace ospnext
