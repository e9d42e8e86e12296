// The reward `compute:URL`: the scores of a reward server of Flow-Factory.
#include <nlohmann/json.hpp>

#include "core/base64.h"
#include "rl/rewards/http_service.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/video_bytes.h"

namespace ospnext {
namespace {

using nlohmann::json;

class ComputeService final : public Reward {
 public:
  explicit ComputeService(HttpService service) : service_(std::move(service)) {}

 private:
  std::vector<VideoScore> score_videos(const at::Tensor& videos,
                                       const std::vector<std::string>& prompts,
                                       const CancellationToken& cancel) const override {
    json frames = json::array();  // of each video
    for (const at::Tensor& video : videos.unbind()) {
      cancel.check();
      json of_video = json::array();
      for (const std::string& file : png_bytes(video)) {
        of_video.push_back(base64(file));
      }
      frames.push_back(std::move(of_video));
    }
    const json request = {{"prompt", prompts},
                          {"image", nullptr},
                          {"video", std::move(frames)},
                          {"condition_images", nullptr},
                          {"condition_videos", nullptr}};
    const std::string body = request.dump(-1, ' ', false, json::error_handler_t::replace);
    return parse_flow_factory_rewards(service_.post("/compute", body, cancel), prompts.size(),
                                      "its answer");
  }

  HttpService service_;
};

}  // namespace

std::unique_ptr<Reward> make_compute_reward(const std::string& url, double seconds) {
  return std::make_unique<ComputeService>(HttpService(url, seconds, "`reward` compute"));
}

}  // namespace ospnext
