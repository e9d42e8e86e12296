// OSP-Next's own YAML files (configs/infer, configs/eval) as flags of `ospnext generate`.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace ospnext {

// Whether `config` is written in OSP-Next's words: it has one of the sections of its files.
bool is_ospnext_yaml(const nlohmann::json& config);

// Flag names and values for what `config`, read from `file`, says. Keys about running in parallel, keys
// of training, and keys nobody knows are named in warnings, one for each kind. Every prompt gets the same
// seed, and the video is DIR/video.mp4 of output_dir. Throws InputError for a value of the wrong type and
// for a pipeline, model or scheduler that is not text-to-video by flow matching.
// Source: OSP-Next infer/infer_osp.py.
nlohmann::json flags_from_ospnext_yaml(const nlohmann::json& config,
                                       const std::filesystem::path& file);

}  // namespace ospnext
