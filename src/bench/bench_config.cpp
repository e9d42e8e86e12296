#include "bench/bench_config.h"

#include "core/number_check.h"

namespace ospnext {

PartConfigs ModelSizeFields::parts(const std::string& command) const {
  PartConfigs parts = model_of_size(size, "`size`");
  TransformerConfig& transformer = parts.transformer;
  transformer.skiparse_model_type = model_type;
  transformer.sparse_ratio = sparse_ratio;
  transformer.num_full_blocks = model_type == "dual_end" ? num_full_blocks : 0;
  transformer.check(command);
  return parts;
}

void TimingFields::check() const {
  check_range("`runs`", runs, int64_t{1}, int64_t{10'000});
  check_range("`warmup`", warmup, int64_t{0}, int64_t{10'000});
}

BenchModel BenchModelFields::model() const {
  const PartConfigs parts = model_size.parts("bench");
  BenchModel model;
  model.transformer = parts.transformer;
  model.text_encoder = parts.text_encoder;
  model.vae = parts.vae;
  model.width = width;
  model.height = height;
  model.num_frames = num_frames;
  model.video().check(model.vae);
  model.compute = parse_transformer_compute(device, precision);
  return model;
}

std::string BenchModelFields::title(const BenchModel& model) const {
  return model_size.size + " " + model_size.model_type + ", " + std::to_string(width) + " x " +
         std::to_string(height) + " x " + std::to_string(num_frames) +
         " frames: " + std::to_string(model.grid().tokens()) + " tokens, " +
         model.compute.device.str() + ", " + model.compute.precision_name();
}

}  // namespace ospnext
