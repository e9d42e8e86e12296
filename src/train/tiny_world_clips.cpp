#include "train/tiny_world_clips.h"

#include "core/torch/random.h"
#include "train/objective.h"

namespace ospnext {

TinyWorldClips::TinyWorldClips(std::vector<LatentGroup> groups, std::vector<LatentGroup> held_out,
                               int64_t held_out_clips, TinyWorldClipsConfig config)
    : groups_(std::move(groups)),
      held_out_(std::move(held_out)),
      held_out_clips_(held_out_clips),
      config_(std::move(config)) {}

ClipBatch TinyWorldClips::next(const BatchPart& part) {
  at::Generator choose = seeded_generator(config_.seed, "frame size", batches_);
  const double uniform = at::rand({1}, choose).item<double>();
  const LatentGroup& group = groups_[pick_frame_size(config_.sizes, uniform)];
  const at::Device device = group.latents.device();
  at::Generator draw = seeded_generator(device, config_.seed, "clips and captions", batches_++);
  const auto options = at::TensorOptions().device(device);
  const auto own = [&](const at::Tensor& x) { return x.narrow(0, part.first, part.count); };
  const int64_t forms = group.ids.size(1);
  const at::Tensor rows =
      own(at::randint(group.latents.size(0), {part.whole}, draw, options.dtype(at::kLong)));
  const at::Tensor form = own(at::randint(forms, {part.whole}, draw, options.dtype(at::kLong)));
  const at::Tensor dropped = own(at::rand({part.whole, 1}, draw, options)) < config_.text_dropout;
  const at::Tensor ids = group.ids.flatten(0, 1).index_select(0, rows * forms + form);  // [B, T]
  return {.latent = group.latents.index_select(0, rows).to(at::kFloat),
          .ids = at::where(dropped, config_.empty_caption, ids)};
}

ClipBatch TinyWorldClips::held_out(int64_t i) {
  const auto groups = static_cast<int64_t>(held_out_.size());
  const LatentGroup& group = held_out_[i % groups];
  const int64_t clip = i / groups;
  return {.latent = group.latents.narrow(0, clip, 1).to(at::kFloat),
          .ids = group.ids[clip].narrow(0, clip % group.ids.size(1), 1)};
}

void TinyWorldClips::restore(const nlohmann::json& state, const std::string& origin) {
  batches_ = count_of_state(state, "batches", origin);
}

}  // namespace ospnext
