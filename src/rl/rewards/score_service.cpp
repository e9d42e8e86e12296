// The reward `score:URL`: the scores of UniRL's reward service, and of others that speak as it
// does.
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/base64.h"
#include "core/error.h"
#include "rl/rewards/http_service.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/video_bytes.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr const char* kOrigin = "its answer";  // of what the service says, in messages

class ScoreService final : public Reward {
 public:
  ScoreService(HttpService service, ServiceReward asked, double fps)
      : service_(std::move(service)), asked_(std::move(asked)), fps_(fps) {}

 private:
  std::vector<VideoScore> score_videos(const at::Tensor& videos,
                                       const std::vector<std::string>& prompts,
                                       const CancellationToken& cancel) const override {
    const std::string reward = asked_.name.empty() ? only_reward(cancel) : asked_.name;
    json requests = json::array();
    for (size_t i = 0; i < prompts.size(); ++i) {
      cancel.check();
      const std::string file = mp4_bytes(videos[static_cast<int64_t>(i)], fps_);
      requests.push_back({{"history", {{{"text", prompts[i]}, {"video_b64", base64(file)}}}},
                          {"required_rewards", {reward}},
                          {"metadata", nullptr}});
    }
    const std::string body =
        json{{"requests", requests}}.dump(-1, ' ', false, json::error_handler_t::replace);
    return parse_unirl_scores(service_.post("/score", body, cancel), prompts.size(), reward,
                              asked_.part, kOrigin);
  }

  // The name of the reward of a service that has one.
  std::string only_reward(const CancellationToken& cancel) const {
    const auto names = parse_unirl_rewards(service_.get("/rewards", cancel), kOrigin);
    if (names.size() != 1) {
      throw RunError("it has the rewards " + json(names).dump() +
                     ", expected one of them behind the URL, as #NAME");
    }
    return names.front();
  }

  HttpService service_;
  ServiceReward asked_;
  double fps_;
};

}  // namespace

std::unique_ptr<Reward> make_score_reward(const std::string& url, const ServiceReward& asked,
                                          double seconds, double fps) {
  HttpService service(url, seconds, "`reward` score");
  check_mp4("`reward` score");
  return std::make_unique<ScoreService>(std::move(service), asked, fps);
}

}  // namespace ospnext
