// Which prompts a rollout takes, and the noise of each of its videos.
#pragma once

#include <ATen/Parallel.h>

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

struct PromptSampling {
  int64_t prompts = 0;     // in all
  int64_t parts = 1;       // groups of processes that make videos at the same time
  int64_t part_batch = 4;  // videos of each part
  int64_t group_size = 4;  // videos of a prompt
  uint64_t seed = 42;

  // Throws InputError unless whole groups fill the parts together, and there is a prompt for each.
  void check() const;
};

struct PromptDraw {
  int64_t prompt = 0;  // its index
  int64_t sample = 0;  // which of the prompt's videos, from 0 to group_size - 1
  bool operator==(const PromptDraw&) const = default;
};

// The videos of round 0, 1, ...: part after part, part_batch each. parts·part_batch / group_size
// different prompts are drawn, each stands there group_size times, and all are shuffled. The
// prompts are those of the reference, on any number of processes. Throws as check() does.
// Source: Flow-GRPO scripts/train_flux.py:DistributedKRepeatSampler, which OSP-Next uses with
// round = epoch·num_batches_per_epoch + batch.
std::vector<PromptDraw> draw_prompts(const PromptSampling& sampling, int64_t round);

// The place of a video in a training. Its noise depends on nothing else: neither on the batch nor
// on the mesh.
struct NoisePlace {
  uint64_t seed = 0;
  int64_t round = 0;
  PromptDraw draw;
};

// Standard normal noise of one video on the CPU, [C, F, h, w] float32: at the beginning, in a noisy
// step, or to noise the finished video with. A finished video is noised several times; `draw` says
// which of them, from 0 on.
at::Tensor rollout_start(const NoisePlace& place, at::IntArrayRef shape);
at::Tensor rollout_noise(const NoisePlace& place, int64_t step, at::IntArrayRef shape);
at::Tensor forward_noise(const NoisePlace& place, int64_t draw, at::IntArrayRef shape);

// The noise of each place: draw(place) [C, F, h, w] -> [n, C, F, h, w], on the CPU.
template <class Draw>
at::Tensor noise_of_each(const std::vector<NoisePlace>& places, const Draw& draw) {
  std::vector<at::Tensor> drawn(places.size());
  at::parallel_for(0, static_cast<int64_t>(places.size()), 1, [&](int64_t begin, int64_t end) {
    const at::NoGradGuard no_grad;
    for (int64_t i = begin; i < end; ++i) {
      drawn[static_cast<size_t>(i)] = draw(places[static_cast<size_t>(i)]);
    }
  });
  return at::stack(drawn);
}

}  // namespace ospnext
