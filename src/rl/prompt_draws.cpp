#include "rl/prompt_draws.h"

#include <map>
#include <string>

#include "core/error.h"
#include "core/number_check.h"
#include "core/torch/random.h"

namespace ospnext {
namespace {

uint64_t seed_of(const NoisePlace& place) {
  uint64_t seed = derived_seed(place.seed, "rollout round", static_cast<uint64_t>(place.round));
  seed = derived_seed(seed, "rollout prompt", static_cast<uint64_t>(place.draw.prompt));
  return derived_seed(seed, "rollout sample", static_cast<uint64_t>(place.draw.sample));
}

at::Tensor noise_of(const NoisePlace& place, std::string_view purpose, int64_t index,
                    at::IntArrayRef shape) {
  return at::randn(shape, seeded_generator(seed_of(place), purpose, static_cast<uint64_t>(index)),
                   at::kFloat);
}

}  // namespace

void PromptSampling::check() const {
  constexpr int64_t kMost = 1'000'000;
  check_range("`sample_batch_size`", part_batch, int64_t{1}, kMost);
  check_range("`group_size`", group_size, int64_t{2}, kMost);
  const int64_t videos = parts * part_batch;
  if (videos % group_size != 0) {
    throw InputError("`group_size`: found " + std::to_string(group_size) +
                     ", expected a divisor of the videos of a batch, " + std::to_string(videos) +
                     ", which are " + std::to_string(parts) + " x `sample_batch_size` " +
                     std::to_string(part_batch));
  }
  if (prompts < videos / group_size) {
    throw InputError("`prompts`: found " + std::to_string(prompts) +
                     " prompts, expected at least " + std::to_string(videos / group_size) +
                     ", one for each group of a batch");
  }
}

std::vector<PromptDraw> draw_prompts(const PromptSampling& sampling, int64_t round) {
  sampling.check();
  const int64_t videos = sampling.parts * sampling.part_batch;
  const at::Generator generator = noise_generator(sampling.seed + static_cast<uint64_t>(round));
  const at::Tensor chosen = at::randperm(sampling.prompts, generator, at::kLong)
                                .slice(0, 0, videos / sampling.group_size);
  const at::Tensor order = at::randperm(videos, generator, at::kLong);
  std::vector<PromptDraw> draws;
  std::map<int64_t, int64_t> drawn;  // of each prompt so far
  for (int64_t i = 0; i < videos; ++i) {
    const int64_t prompt = chosen[order[i].item<int64_t>() / sampling.group_size].item<int64_t>();
    draws.push_back({prompt, drawn[prompt]++});
  }
  return draws;
}

at::Tensor rollout_start(const NoisePlace& place, at::IntArrayRef shape) {
  return noise_of(place, "rollout start", 0, shape);
}

at::Tensor rollout_noise(const NoisePlace& place, int64_t step, at::IntArrayRef shape) {
  return noise_of(place, "rollout step", step, shape);
}

at::Tensor forward_noise(const NoisePlace& place, int64_t draw, at::IntArrayRef shape) {
  return noise_of(place, "forward noise", draw, shape);
}

}  // namespace ospnext
