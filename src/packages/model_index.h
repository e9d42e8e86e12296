// What a package says of itself as a whole: model_index.json, and folders with half a model each.
#pragma once

#include <filesystem>

namespace ospnext {

// Throws InputError, naming what was found, when the folder of a package holds another model than
// one text-to-video transformer with its parts:
//   model_index.json  of another pipeline than WanPipeline or OSPNextPipeline (none named is fine),
//                     with a second transformer (transformer_2, boundary_ratio) or with
//                     expand_timesteps; what is set to null, [null, null] or false is not there
//   transformer_2/    in a package without model_index.json
//   high_noise_model/ or low_noise_model/, as Wan2.2's own packages have them
// Source: diffusers pipelines/wan/pipeline_wan.py (WanPipeline's arguments); Wan2.2 wan/configs.
void refuse_other_pipelines(const std::filesystem::path& package);

}  // namespace ospnext
