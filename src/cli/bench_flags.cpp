#include "cli/bench_flags.h"

#include "pipeline/generation_config.h"
#include "pipeline/random_model.h"

namespace ospnext {

BenchModel BenchModelFlags::model() const {
  BenchModel model;
  model.transformer = released_transformer(size, "--size");
  model.transformer.skiparse_model_type = model_type;
  model.transformer.sparse_ratio = sparse_ratio;
  model.transformer.num_full_blocks = model_type == "dual_end" ? num_full_blocks : 0;
  model.transformer.check("bench");
  GenerationConfig video;
  video.width = width;
  video.height = height;
  video.num_frames = num_frames;
  video.check(VaeConfig());
  model.width = width;
  model.height = height;
  model.num_frames = num_frames;
  model.compute = parse_transformer_compute(device, precision);
  return model;
}

std::string BenchModelFlags::title(const BenchModel& model) const {
  return size + " " + model_type + ", " + std::to_string(width) + " x " + std::to_string(height) +
         " x " + std::to_string(num_frames) + " frames: " + std::to_string(model.grid().tokens()) +
         " tokens, " + model.compute.device.str() + ", " + model.compute.precision_name();
}

}  // namespace ospnext
