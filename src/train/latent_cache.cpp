#include "train/latent_cache.h"

#include <cmath>
#include <map>

#include "core/error.h"
#include "core/torch/random.h"
#include "data/tiny_world/captions.h"
#include "io/output_file.h"
#include "io/weights.h"

namespace ospnext {
namespace {

constexpr int64_t kClipsPerBatch = 8;
constexpr int64_t kFormsPerClip = 8;

// Token ids of a clip's captions, padded with 0. Its index decides the sentence forms.
// -> [forms, T] int64
at::Tensor caption_ids(const ClipSpec& spec, int64_t index, const Tokenizer& tokenizer,
                       int64_t max_tokens) {
  std::vector<at::Tensor> rows;
  for (int64_t i = 0; i < kFormsPerClip; ++i) {
    const std::string text = caption(spec, (index + i) % num_caption_forms(spec.objects.size()));
    const Tokenizer::Tokens tokens = tokenizer.encode(text, max_tokens + 1);
    if (tokens.mask.back() != 0) {
      throw InputError("caption \"" + text + "\": found more than " + std::to_string(max_tokens) +
                       " tokens");
    }
    rows.push_back(at::tensor(tokens.ids, at::kLong).narrow(0, 0, max_tokens));
  }
  return at::stack(rows);
}

int64_t num_batches(const FrameSize& size, const LatentCacheRequest& request) {
  return static_cast<int64_t>(
      std::ceil(static_cast<double>(request.clips) * size.share / kClipsPerBatch));
}

// The metadata that a cache file must match: the request, and the VAE by the sum of its weights.
std::map<std::string, std::string> description(const LatentCacheRequest& request, const Vae& vae) {
  std::string sizes;
  for (const FrameSize& size : request.sizes) {
    sizes += std::to_string(size.height) + "x" + std::to_string(size.width) + " ";
  }
  std::string shares;  // of clips with two objects, of clips with a pattern, of each shape
  for (const double share : {request.two_objects, request.patterned}) {
    shares += std::to_string(share) + " ";
  }
  for (const double share : request.shape_shares) {
    shares += std::to_string(share) + " ";
  }
  const at::NoGradGuard no_grad;
  double weights = 0;
  for (const at::Tensor& parameter : vae->parameters()) {
    weights += parameter.to(at::kDouble).sum().item<double>();
  }
  return {{"sizes", sizes},
          {"clips", std::to_string(request.clips)},
          {"seed", std::to_string(request.seed)},
          {"split", std::to_string(static_cast<int>(request.split))},
          {"shares", shares},
          {"max_tokens", std::to_string(request.max_tokens)},
          {"vae", std::to_string(weights)}};
}

LatentGroup make_group(const FrameSize& size, const LatentCacheRequest& request, Vae& vae,
                       at::ScalarType precision, const Tokenizer& tokenizer, at::Device device,
                       Progress& progress, const CancellationToken& cancel) {
  const at::NoGradGuard no_grad;
  const ClipOptions options{.height = size.height,
                            .width = size.width,
                            .num_frames = kMotionFrames,
                            .two_objects = request.two_objects,
                            .patterned = request.patterned,
                            .shape_shares = request.shape_shares};
  const uint64_t seed =
      derived_seed(request.seed, "latent cache", static_cast<uint64_t>(size.height));
  const int64_t batches = num_batches(size, request);
  std::vector<at::Tensor> latents, ids;
  for (int64_t batch = 0; batch < batches; ++batch) {
    cancel.check();
    std::vector<ClipSpec> specs;
    for (int64_t i = 0; i < kClipsPerBatch; ++i) {
      const int64_t index = batch * kClipsPerBatch + i;
      specs.push_back(sample_clip(seed, index, request.split, options));
      ids.push_back(caption_ids(specs.back(), index, tokenizer, request.max_tokens));
    }
    const at::Tensor video =
        render_clips(specs, device).to(precision).contiguous(at::MemoryFormat::ChannelsLast3d);
    const at::Tensor moments = vae->encode_clip(video).to(at::kFloat);
    const at::Tensor latent = vae->normalise(moments.narrow(1, 0, moments.size(1) / 2));
    latents.push_back(latent.to(at::kBFloat16).contiguous());
    progress.step();
  }
  return {.latents = at::cat(latents), .ids = at::stack(ids).to(device)};
}

}  // namespace

std::vector<LatentGroup> latent_cache(const LatentCacheRequest& request, Vae& vae,
                                      at::ScalarType precision, const Tokenizer& tokenizer,
                                      at::Device device, const std::filesystem::path& file,
                                      Progress& progress, const CancellationToken& cancel) {
  const std::map<std::string, std::string> made_for = description(request, vae);
  std::vector<LatentGroup> groups;
  if (!file.empty() && std::filesystem::exists(file)) {
    const Checkpoint checkpoint = open_checkpoint(file);
    bool fits = true;
    for (const auto& [key, value] : made_for) {
      const auto found = checkpoint.metadata().find(key);
      fits = fits && found != checkpoint.metadata().end() && found->second == value;
    }
    if (fits) {
      for (size_t i = 0; i < request.sizes.size(); ++i) {
        const std::string index = std::to_string(i);
        groups.push_back(
            {.latents = to_tensor(checkpoint.tensors().at("latents." + index)).clone().to(device),
             .ids = to_tensor(checkpoint.tensors().at("ids." + index)).clone().to(device)});
      }
      return groups;
    }
  }
  if (!file.empty()) {
    check_writable(file, "`latent_cache`");
  }
  int64_t batches = 0;
  for (const FrameSize& size : request.sizes) {
    batches += num_batches(size, request);
  }
  progress.begin("encoding clips", batches);
  std::map<std::string, at::Tensor> tensors;
  for (size_t i = 0; i < request.sizes.size(); ++i) {
    groups.push_back(
        make_group(request.sizes[i], request, vae, precision, tokenizer, device, progress, cancel));
    tensors["latents." + std::to_string(i)] = groups.back().latents;
    tensors["ids." + std::to_string(i)] = groups.back().ids;
  }
  progress.end();
  if (!file.empty()) {
    save_safetensors(file, tensors, made_for);
  }
  return groups;
}

}  // namespace ospnext
