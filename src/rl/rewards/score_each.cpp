#include "rl/rewards/score_each.h"

#include <atomic>

#include "core/torch/torch.h"

namespace ospnext {

std::vector<VideoScore> score_each(int64_t count, const CancellationToken& cancel,
                                   const std::function<VideoScore(int64_t)>& judge) {
  std::vector<VideoScore> scores(static_cast<size_t>(count));
  std::atomic<int64_t> next = 0;
  at::parallel_for(0, at::get_num_threads(), 1, [&](int64_t, int64_t) {
    const at::NoGradGuard no_grad;
    for (int64_t i = next++; i < count && !cancel.cancelled(); i = next++) {
      scores[static_cast<size_t>(i)] = judge(i);
    }
  });
  cancel.check();
  return scores;
}

}  // namespace ospnext
