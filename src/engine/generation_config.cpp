#include "engine/generation_config.h"

#include "core/fields.h"
#include "core/number_check.h"
#include "core/torch/device.h"
#include "engine/scheduler_config.h"
#include "io/readers/bounded_json.h"
#include "models/vae_tiling.h"

namespace ospnext {
namespace {

constexpr int64_t kLargestSide = 8192;      // pixels
constexpr int64_t kLongestVideo = 100'001;  // frames

// Throws InputError if the value is not k * step + offset, and names the nearest valid values.
void check_step(const std::string& flag, int64_t value, int64_t step, int64_t offset,
                int64_t largest) {
  const int64_t smallest = offset == 0 ? step : offset;
  check_range(flag, value, smallest, largest);
  const int64_t excess = (value - offset) % step;
  if (excess == 0) {
    return;
  }
  const int64_t below = value - excess;
  const int64_t above = below + step;
  std::string nearest = std::to_string(above);
  if (below >= smallest) {
    nearest = std::to_string(below) + " or " + nearest;
  }
  const std::string rule = offset == 0 ? "a multiple of " + std::to_string(step)
                                       : std::to_string(step) + "k + " + std::to_string(offset);
  throw InputError(flag + ": found " + std::to_string(value) + ", expected " + rule +
                   ": the nearest is " + nearest);
}

}  // namespace

const char* const kWanNegativePrompt =
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低"
    "质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态"
    "畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走";

void GenerationConfig::check(const VaeConfig& vae) const {
  check_step("`width`", width, vae.spatial_factor() * kPatchColumns, 0, kLargestSide);
  check_step("`height`", height, vae.spatial_factor() * kPatchRows, 0, kLargestSide);
  check_step("`num_frames`", num_frames, vae.temporal_factor(), 1, kLongestVideo);
  check_range("`fps`", fps, 0.1, 1000.0);
  check_range("`guidance_scale`", guidance_scale, 1e-3, 1000.0);
  sampler();
  if (vae_tile != "auto") {
    parse_vae_tiling(vae_tile, vae);
  }
  vae_dtype(at::kFloat);
}

at::ScalarType GenerationConfig::vae_dtype(at::ScalarType dtype) const {
  return vae_precision == "auto" ? dtype : parse_precision(vae_precision, "`vae_precision`");
}

LatentSize latent_size(const GenerationConfig& config, const VaeConfig& vae) {
  return {(config.num_frames - 1) / vae.temporal_factor() + 1, config.height / vae.spatial_factor(),
          config.width / vae.spatial_factor()};
}

Grid token_grid(const LatentSize& latent) {
  return {latent.frames, latent.height / kPatchRows, latent.width / kPatchColumns};
}

GenerationConfig defaults_for(const ModelFiles& files, const TransformerConfig& transformer) {
  GenerationConfig config;
  const bool large = transformer.dim >= 5120;  // 14B
  if (large) {
    config.width = 1280;
    config.height = 720;
  }
  if (files.family == ModelFamily::kWanAi) {
    config.scheduler = "unipc";
    config.shift = large ? 5.0 : 8.0;
    config.guidance_scale = large ? 5.0 : 6.0;
  }
  if (files.scheduler_config) {
    const SchedulerChoice choice =
        scheduler_choice(read_json_file(*files.scheduler_config), files.scheduler_config->string(),
                         {config.scheduler, config.shift});
    config.scheduler = choice.scheduler;
    config.shift = choice.shift;
  }
  if (files.generation_config) {
    fields_from_json(config, read_json_file(*files.generation_config),
                     files.generation_config->string());
  }
  return config;
}

}  // namespace ospnext
