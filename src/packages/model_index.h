// Checks that a package contains a supported model: by model_index.json and by folders that contain
// one of two transformers.
#pragma once

#include <filesystem>

namespace ospnext {

// Throws InputError that names the evidence when the package is not a model of one text-to-video
// transformer with its other parts. The evidence is one of:
//   model_index.json  with a pipeline other than WanPipeline or OSPNextPipeline (a file without
//                     a pipeline is accepted), with a second transformer (transformer_2,
//                     boundary_ratio) or with expand_timesteps. Values null and [null, null] count
//                     as absent, and so does false for expand_timesteps
//   transformer_2/    in a package without model_index.json
//   high_noise_model/ or low_noise_model/, which occur in Wan2.2's own packages
// Source: diffusers pipelines/wan/pipeline_wan.py (WanPipeline's arguments); Wan2.2 wan/configs.
void refuse_other_pipelines(const std::filesystem::path& package);

}  // namespace ospnext
