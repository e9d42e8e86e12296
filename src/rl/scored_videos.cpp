#include "rl/scored_videos.h"

#include <algorithm>
#include <map>

namespace ospnext {
namespace {

constexpr int64_t kSide = 4;  // of a look, in frames, rows and columns
constexpr int64_t kLook = 3 * kSide * kSide * kSide;

// videos [B, 3, T, H, W] -> [B, kLook], the looks of ScoredVideos, on the CPU
at::Tensor looks_of(const at::Tensor& videos) {
  const at::Tensor small = at::adaptive_avg_pool3d(videos, {kSide, kSide, kSide});
  return small.flatten(1).to(at::kDouble).cpu();  // [B, kLook]
}

// A copy in memory from which and to which a GPU copies quickly; a CPU's tensor as it is.
at::Tensor on_cpu(const at::Tensor& videos) {
  if (!videos.is_cuda()) {
    return videos;
  }
  at::Tensor copy =
      at::empty(videos.sizes(), at::TensorOptions(videos.scalar_type()).pinned_memory(true));
  return copy.copy_(videos);
}

// videos on the CPU
ScoredVideos score_batch(const std::vector<WeightedReward>& rewards, const at::Tensor& videos,
                         const at::Tensor& looks, const std::vector<std::string>& prompts,
                         const CancellationToken& cancel) {
  const at::NoGradGuard no_grad;
  const int64_t n = videos.size(0);
  ScoredVideos scored{.scores = at::zeros({n, static_cast<int64_t>(rewards.size())}, at::kDouble),
                      .valid = at::ones({n}, at::kDouble),
                      .looks = looks,
                      .errors = {}};
  std::map<const Reward*, std::vector<VideoScore>> known;  // parts of one reward share its scores
  for (size_t k = 0; k < rewards.size(); ++k) {
    const auto [found, is_new] = known.try_emplace(rewards[k].reward.get());
    if (is_new) {
      found->second = rewards[k].reward->score(videos, prompts, cancel);
    }
    const std::vector<VideoScore>& scores = found->second;
    for (size_t i = 0; i < scores.size(); ++i) {
      if (scores[i].error.empty()) {
        scored.scores[static_cast<int64_t>(i)][static_cast<int64_t>(k)] =
            scores[i].parts.at(rewards[k].part);
        continue;
      }
      scored.valid[static_cast<int64_t>(i)] = 0;
      const std::string error = rewards[k].name + ": " + scores[i].error;
      if (std::ranges::find(scored.errors, error) == scored.errors.end()) {
        scored.errors.push_back(error);
      }
    }
  }
  return scored;
}

}  // namespace

ScoringQueue::~ScoringQueue() {
  for (const auto& batch : batches_) {
    batch.wait();
  }
}

void ScoringQueue::push(const at::Tensor& videos, const std::vector<std::string>& prompts) {
  const at::Tensor looks = looks_of(videos), pixels = on_cpu(videos);
  std::shared_future<ScoredVideos> before =
      batches_.empty() ? std::shared_future<ScoredVideos>() : batches_.back();
  batches_.push_back(std::async(std::launch::async, [=, this] {
                       if (before.valid()) {
                         before.wait();
                       }
                       return score_batch(rewards_, pixels, looks, prompts, cancel_);
                     }).share());
}

ScoredVideos ScoringQueue::take() {
  std::vector<at::Tensor> scores, valid, looks;
  ScoredVideos all;
  for (const auto& batch : batches_) {
    const ScoredVideos& one = batch.get();
    scores.push_back(one.scores);
    valid.push_back(one.valid);
    looks.push_back(one.looks);
    all.errors.insert(all.errors.end(), one.errors.begin(), one.errors.end());
  }
  batches_.clear();
  std::ranges::sort(all.errors);
  all.errors.erase(std::ranges::unique(all.errors).begin(), all.errors.end());
  all.scores = at::cat(scores);
  all.valid = at::cat(valid);
  all.looks = at::cat(looks);
  return all;
}

ScoredVideos gather_scores(const ScoredVideos& own, int64_t part, int64_t parts, int64_t n,
                           int64_t rewards, const ProcessGroup& all, at::Device device) {
  at::Tensor table = at::zeros({parts, n, rewards + 1 + kLook}, at::kDouble);
  if (own.scores.defined()) {
    table[part] = at::cat({own.scores, own.valid.unsqueeze(1), own.looks}, 1);  // [n, K + 1 + look]
  }
  table = all.all_sum(table.to(device), "rewards").cpu().flatten(0, 1);  // [parts·n, K + 1 + look]
  const at::Tensor valid = table.select(1, rewards);
  return {.scores = table.narrow(1, 0, rewards) * valid.unsqueeze(1),  // valid [parts·n, 1]
          .valid = valid,
          .looks = table.narrow(1, rewards + 1, kLook),
          .errors = own.errors};
}

}  // namespace ospnext
