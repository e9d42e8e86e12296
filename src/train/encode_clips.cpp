#include "train/encode_clips.h"

#include <cmath>
#include <deque>
#include <limits>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "core/number_check.h"
#include "data/clip_folder.h"
#include "data/encoded_clips.h"
#include "engine/prompts.h"
#include "io/video_reader.h"
#include "models/vae_tiling.h"
#include "packages/load_model.h"
#include "train/frame_sizes.h"

namespace ospnext {
namespace {

constexpr double kGigabyte = 1e9;

// A number that changes when the weights do: of each tensor, the first values are summed.
double fingerprint(const torch::nn::Module& module) {
  constexpr int64_t kMostValues = 1024;
  const at::NoGradGuard no_grad;
  double sum = 0;
  int64_t place = 0;
  for (const at::Tensor& parameter : module.parameters()) {
    const at::Tensor values = parameter.flatten();  // [n]
    const int64_t count = std::min(values.numel(), kMostValues);
    sum += static_cast<double>(++place) *
           values.narrow(0, 0, count).to(at::kCPU, at::kDouble).sum().item<double>();
  }
  return sum;
}

// Both encoders, and what is asked of them.
struct Encoders {
  ComputeOptions compute;
  Vae vae{nullptr};
  std::optional<VaeTiling> tiling;
  Tokenizer tokenizer;
  Umt5Encoder text_encoder{nullptr};
  int64_t text_rows;

  // frames [F, H, W, 3] uint8 -> [z, F', h, w]
  at::Tensor latent(const at::Tensor& frames, const CancellationToken& cancel) {
    const at::NoGradGuard no_grad;
    const at::Tensor video = pixels_to_video(frames).unsqueeze(0);  // [1, 3, F, H, W]
    const at::Tensor latent =
        tiling ? encode_tiled(vae, video, *tiling, &cancel) : vae->encode(video, &cancel);
    if (!latent.isfinite().all().item<bool>()) {
      throw RunError("the VAE made values that are not finite; try --precision float32");
    }
    return latent[0].to(at::kCPU, compute.dtype).contiguous();
  }

  // -> [T, D]
  at::Tensor text(const std::string& caption) {
    const EncodedPrompt encoded = encode_prompt(text_encoder, tokenizer, caption, text_rows);
    if (is_cut(encoded.tokens.found, text_rows)) {
      warn(cut_sentence(caption, encoded.tokens.found, text_rows));
    }
    return encoded.rows.to(at::kCPU, compute.dtype).contiguous();
  }
};

Encoders load_encoders(const ClipEncodingConfig& config) {
  const ComputeOptions compute = parse_compute(config.device, config.precision);
  const ModelFiles files = config.model.find();
  const PartFiles& vae = files.require(ModelPart::kVae);
  const VaeConfig vae_config = read_vae_config(vae);
  const int64_t step = vae_config.temporal_factor();
  if ((config.num_frames - 1) % step != 0) {
    throw InputError("`num_frames`: found " + std::to_string(config.num_frames) +
                     ", expected 1 more than a multiple of " + std::to_string(step));
  }
  const auto tiling = parse_vae_tiling(config.vae_tile, vae_config);
  Tokenizer tokenizer = load_tokenizer(files.require(ModelPart::kTokenizer));
  Umt5Encoder text_encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), compute);
  return {.compute = compute,
          .vae = load_vae(vae, compute),
          .tiling = tiling,
          .tokenizer = std::move(tokenizer),
          .text_encoder = text_encoder,
          .text_rows = config.text_rows};
}

// What clips of one folder must have in common.
nlohmann::json settings_of(const ClipEncodingConfig& config, const Encoders& encoders) {
  return {{"sizes", config.sizes},
          {"num_frames", config.num_frames},
          {"fps", config.fps},
          {"stride", config.stride},
          {"text_rows", config.text_rows},
          {"vae_tile", config.vae_tile},
          {"precision", encoders.compute.precision_name()},
          {"vae_sum", fingerprint(*encoders.vae)},
          {"text_encoder_sum", fingerprint(*encoders.text_encoder)}};
}

// Of the sizes that the video covers, or of all if it covers none, the one of the nearest shape; of
// several equally near, the largest.
const FrameSize& size_for(const std::vector<FrameSize>& sizes, int64_t rows, int64_t columns) {
  const FrameSize* best = nullptr;
  auto best_rank = std::tuple(2, 0.0, int64_t{0});
  for (const FrameSize& size : sizes) {
    const bool enlarges = size.height > rows || size.width > columns;
    const double shape = std::abs(std::log(static_cast<double>(size.height * columns) /
                                           static_cast<double>(size.width * rows)));
    const auto rank = std::tuple(enlarges ? 1 : 0, shape, -size.height * size.width);
    if (rank < best_rank) {
      best_rank = rank;
      best = &size;
    }
  }
  return *best;
}

// The clips of one video, one after the other.
class VideoClips {
 public:
  VideoClips(const CaptionedVideo& video, const ClipEncodingConfig& config,
             const std::vector<FrameSize>& sizes)
      : video_(video),
        config_(config),
        sizes_(sizes),
        reader_(open_video_reader(video.file, config.fps > 0 ? config.fps : kImagesPerSecond)),
        sampled_(*reader_, {.fps = config.fps}) {}

  int64_t first_frame() const { return first_frame_; }
  int64_t frames() const { return taken_; }

  // Moves to the next clip. Returns whether there is one.
  bool next() {
    if (taken_ > 0) {
      if (config_.stride == 0) {
        return false;
      }
      first_frame_ += config_.stride;
    }
    while (!clip_.empty() && taken_ - static_cast<int64_t>(clip_.size()) < first_frame_) {
      clip_.pop_front();
    }
    while (static_cast<int64_t>(clip_.size()) < config_.num_frames) {
      const auto frame = sampled_.next();
      if (!frame) {
        return false;
      }
      if (taken_++ >= first_frame_) {
        clip_.push_back(fit(*frame));
      }
    }
    check_rate();
    return true;
  }

  // [F, H, W, 3] uint8
  at::Tensor clip() const { return at::stack(std::vector<at::Tensor>(clip_.begin(), clip_.end())); }

 private:
  static constexpr double kImagesPerSecond = 16;

  at::Tensor fit(const at::Tensor& frame) {
    if (size_ == nullptr) {
      size_ = &size_for(sizes_, frame.size(0), frame.size(1));
      if (size_->height > frame.size(0) || size_->width > frame.size(1)) {
        warn(video_.file.string() + ": is " + std::to_string(frame.size(0)) + "x" +
             std::to_string(frame.size(1)) + " and gets enlarged to " +
             std::to_string(size_->height) + "x" + std::to_string(size_->width));
      }
    }
    return fitted(frame, size_->height, size_->width, video_.file.string());
  }

  void check_rate() const {
    if (sampled_.repeats() * 10 > taken_) {
      throw InputError(video_.file.string() + ": has too few frames a second: of the first " +
                       std::to_string(taken_) + " frames, " + std::to_string(sampled_.repeats()) +
                       " would be repeats, expected at most a tenth; `fps` sets the rate");
    }
  }

  const CaptionedVideo& video_;
  const ClipEncodingConfig& config_;
  const std::vector<FrameSize>& sizes_;
  std::unique_ptr<VideoReader> reader_;
  SampledFrames sampled_;
  const FrameSize* size_ = nullptr;  // chosen by the first frame
  std::deque<at::Tensor> clip_;
  int64_t taken_ = 0;        // frames, those of clip_ last
  int64_t first_frame_ = 0;  // of the clip
};

// Adds the clips of a video that the folder does not have. Throws InputError for a video that
// cannot be used.
void encode_video(const CaptionedVideo& video, const ClipEncodingConfig& config,
                  const std::vector<FrameSize>& sizes, Encoders& encoders,
                  EncodedClipWriter& writer, const CancellationToken& cancel) {
  VideoClips clips(video, config, sizes);
  const int64_t done = writer.clips_of(video.name);
  at::Tensor text;
  int64_t number = 0;
  for (; clips.next(); ++number) {
    cancel.check();
    if (number < done) {
      continue;
    }
    if (!text.defined()) {
      text = encoders.text(video.caption);
    }
    writer.add(video.name, video.caption, clips.first_frame(),
               encoders.latent(clips.clip(), cancel), text);
  }
  if (number == 0) {
    throw InputError(video.file.string() + ": found " + std::to_string(clips.frames()) + " frames" +
                     (config.fps > 0 ? " at " + nlohmann::json(config.fps).dump() + " a second"
                                     : std::string()) +
                     ", expected at least " + std::to_string(config.num_frames));
  }
}

// Throws InputError if the folder has clips of other videos, or of videos with another caption.
void check_same_videos(const EncodedClipWriter& writer, const std::vector<CaptionedVideo>& videos,
                       const ClipEncodingConfig& config) {
  std::set<std::string> names;
  for (const CaptionedVideo& video : videos) {
    names.insert(video.name);
    const std::string* caption = writer.caption_of(video.name);
    if (caption != nullptr && *caption != video.caption) {
      throw InputError("`output` " + config.output + ": " + video.name +
                       " was encoded with another caption: name another folder");
    }
  }
  for (const std::string& name : writer.videos()) {
    if (!names.contains(name)) {
      throw InputError("`output` " + config.output + ": has clips of " + name +
                       ", which is not among `videos` " + config.videos + ": name another folder");
    }
  }
}

}  // namespace

void ClipEncodingConfig::check() const {
  for (const auto& [field, text] : {std::pair("videos", &videos), {"output", &output}}) {
    if (text->empty()) {
      throw InputError(std::string("`") + field + "`: missing, expected the name of a folder");
    }
  }
  parse_frame_sizes("`sizes`", sizes);
  check_range<int64_t>("`num_frames`", num_frames, 1, 4096);
  check_range("`fps`", fps, 0.0, 240.0);
  check_range<int64_t>("`stride`", stride, 0, 1 << 20);
  check_range<int64_t>("`text_rows`", text_rows, 1, 4096);
  check_range("`shard_size`", shard_size, 1e-6, 1e3);
}

EncodedCounts encode_clips(const ClipEncodingConfig& config, Progress& progress,
                           const CancellationToken& cancel) {
  config.check();
  const std::vector<FrameSize> sizes = parse_frame_sizes("`sizes`", config.sizes);
  const std::vector<CaptionedVideo> videos = list_clip_folder(config.videos);
  Encoders encoders = load_encoders(config);
  EncodedClipWriter writer(config.output, settings_of(config, encoders),
                           static_cast<int64_t>(config.shard_size * kGigabyte));
  check_same_videos(writer, videos, config);
  if (!writer.has_empty_text()) {
    writer.set_empty_text(encoders.text(""));
  }
  EncodedCounts counts{.videos = static_cast<int64_t>(videos.size())};
  progress.begin("encoding videos", counts.videos);
  const auto encode_one = [&](const CaptionedVideo& video) {
    try {
      encode_video(video, config, sizes, encoders, writer, cancel);
    } catch (const InputError& error) {
      if (!config.skip_unusable) {
        throw;
      }
      warn(std::string("skipped: ") + error.what());
      counts.skipped += writer.clips_of(video.name) == 0 ? 1 : 0;
    }
    writer.finish(video.name);
  };
  try {
    for (const CaptionedVideo& video : videos) {
      cancel.check();
      if (!writer.is_finished(video.name)) {
        encode_one(video);
      }
      progress.step(std::to_string(writer.total_clips()) + " clips");
    }
  } catch (const RunError&) {
    throw;
  } catch (const std::exception&) {
    writer.flush();  // what is done stays
    throw;
  }
  writer.flush();
  progress.end();
  counts.clips = writer.total_clips();
  return counts;
}

}  // namespace ospnext
