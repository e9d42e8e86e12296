#include "train/encoded_clip_source.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "core/torch/random.h"
#include "train/objective.h"

namespace ospnext {
namespace {

// A drawn order of the numbers 0, ..., n - 1.
std::vector<int64_t> drawn_order(int64_t n, uint64_t seed, const char* purpose, int64_t number) {
  at::Generator draw = seeded_generator(seed, purpose, number);
  const at::Tensor order = at::randperm(n, draw, at::kLong);
  return {order.const_data_ptr<int64_t>(), order.const_data_ptr<int64_t>() + n};
}

// How many batches n clips fill, the last one perhaps in part.
int64_t batches_of(int64_t n, int64_t batch_size) {
  return (n + batch_size - 1) / batch_size;
}

}  // namespace

EncodedClipSource::EncodedClipSource(const std::filesystem::path& folder,
                                     const TransformerConfig& transformer,
                                     const EncodedClipSourceConfig& config)
    : clips_(folder), config_(config) {
  check(transformer, folder.string());
  const Clips trained = take_held_out();
  if (trained.empty()) {
    throw InputError("`encoded_clips` " + folder.string() + ": found " +
                     std::to_string(clips_.size()) + " clip(s), of whose videos " +
                     std::to_string(held_out_clips()) +
                     " are taken for validation; expected some that are left to train on");
  }
  std::map<std::vector<int64_t>, Clips> by_shape;
  for (const int64_t clip : trained) {
    by_shape[clips_.latent_shape(clip)].push_back(clip);
  }
  for (auto& [shape, clips] : by_shape) {
    batches_per_epoch_ += batches_of(std::ssize(clips), config.batch_size);
    of_shape_.push_back(std::move(clips));
  }
}

void EncodedClipSource::check(const TransformerConfig& transformer, const std::string& origin) {
  const auto refuse = [&](int64_t clip, const std::string& found, const std::string& expected) {
    throw InputError("`encoded_clips` " + origin + ": clip " + std::to_string(clip) + " (" +
                     clips_.clip(clip).video + "): found " + found +
                     ", expected what the transformer takes, " + expected);
  };
  longest_ = clips_.size() == 0 ? 0 : clips_.empty_text().size(0);
  for (int64_t i = 0; i < clips_.size(); ++i) {
    const std::vector<int64_t> shape = clips_.latent_shape(i);  // [z, F, h, w]
    const at::Tensor text = clips_.text(i);                     // [T, D]
    if (shape[0] != transformer.in_dim) {
      refuse(i, std::to_string(shape[0]) + " latent channels", std::to_string(transformer.in_dim));
    }
    if (shape[2] % kPatchRows != 0 || shape[3] % kPatchColumns != 0) {
      refuse(i, "a latent of " + std::to_string(shape[2]) + "x" + std::to_string(shape[3]),
             "multiples of " + std::to_string(kPatchRows) + "x" + std::to_string(kPatchColumns));
    }
    if (text.size(1) != transformer.text_dim) {
      refuse(i, std::to_string(text.size(1)) + " numbers of a token's embedding",
             std::to_string(transformer.text_dim));
    }
    if (text.size(0) > transformer.text_len) {
      refuse(i, std::to_string(text.size(0)) + " rows of text",
             "at most " + std::to_string(transformer.text_len));
    }
    longest_ = std::max(longest_, text.size(0));
  }
}

// Moves clips to held_out_. Returns the clips of all other videos.
EncodedClipSource::Clips EncodedClipSource::take_held_out() {
  std::map<std::string, Clips> by_video;
  for (int64_t i = 0; i < clips_.size(); ++i) {
    by_video[clips_.clip(i).video].push_back(i);
  }
  std::vector<const Clips*> videos;  // in the order of names, not of the encoding
  videos.reserve(by_video.size());
  for (const auto& [name, clips] : by_video) {
    videos.push_back(&clips);
  }
  Clips rest;
  for (const int64_t v : drawn_order(std::ssize(videos), config_.seed, "held-out videos", 0)) {
    const Clips& clips = *videos[static_cast<size_t>(v)];
    const bool is_enough = held_out_clips() >= config_.held_out;
    Clips& to = is_enough ? rest : held_out_;
    to.insert(to.end(), clips.begin(), clips.end());
  }
  if (held_out_clips() > config_.held_out) {
    held_out_.resize(static_cast<size_t>(config_.held_out));
  }
  std::ranges::sort(rest);
  return rest;
}

void EncodedClipSource::begin_epoch(int64_t epoch) {
  std::vector<Clips> batches;
  const auto shapes = std::ssize(of_shape_);
  for (int64_t s = 0; s < shapes; ++s) {
    const Clips& clips = of_shape_[static_cast<size_t>(s)];
    const int64_t n = std::ssize(clips);
    const auto order = drawn_order(n, config_.seed, "order of clips", epoch * shapes + s);
    for (int64_t first = 0; first < n; first += config_.batch_size) {
      Clips& batch = batches.emplace_back();
      for (int64_t i = first; i < first + config_.batch_size; ++i) {
        batch.push_back(clips[static_cast<size_t>(order[static_cast<size_t>(i % n)])]);
      }
    }
  }
  batches_of_epoch_.clear();
  for (const int64_t b :
       drawn_order(std::ssize(batches), config_.seed, "order of batches", epoch)) {
    batches_of_epoch_.push_back(batches[static_cast<size_t>(b)]);
  }
  epoch_ = epoch;
}

ClipBatch EncodedClipSource::next(const BatchPart& part) {
  TORCH_CHECK(part.whole == config_.batch_size, "encoded clips: a batch of ", part.whole,
              ", expected ", config_.batch_size);
  if (const int64_t epoch = batches_ / batches_per_epoch_; epoch != epoch_) {
    begin_epoch(epoch);
  }
  const Clips& whole = batches_of_epoch_[static_cast<size_t>(batches_ % batches_per_epoch_)];
  at::Generator draw = seeded_generator(config_.seed, "dropped captions", batches_++);
  const at::Tensor uniform = at::rand({part.whole}, draw, at::kDouble);
  Clips own;
  std::vector<bool> dropped;
  for (int64_t i = part.first; i < part.first + part.count; ++i) {
    own.push_back(whole[static_cast<size_t>(i)]);
    dropped.push_back(uniform[i].item<double>() < config_.text_dropout);
  }
  return batch_of(own, dropped);
}

ClipBatch EncodedClipSource::held_out(int64_t i) {
  return batch_of({held_out_[static_cast<size_t>(i)]}, {false});
}

at::Tensor EncodedClipSource::padded(const at::Tensor& rows) const {
  return at::constant_pad_nd(rows.to(at::kFloat), {0, 0, 0, longest_ - rows.size(0)});
}

ClipBatch EncodedClipSource::batch_of(const Clips& clips, const std::vector<bool>& dropped) const {
  std::vector<at::Tensor> latents, texts;
  for (size_t i = 0; i < clips.size(); ++i) {
    latents.push_back(clips_.latent(clips[i]).to(at::kFloat));
    texts.push_back(padded(dropped[i] ? clips_.empty_text() : clips_.text(clips[i])));
  }
  return {.latent = at::stack(latents).to(config_.device),
          .text = at::stack(texts).to(config_.device)};
}

void EncodedClipSource::restore(const nlohmann::json& state, const std::string& origin) {
  batches_ = count_of_state(state, "batches", origin);
  epoch_ = -1;
}

}  // namespace ospnext
