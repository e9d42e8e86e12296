// Translates OSP-Next's YAML files (configs/infer, configs/eval) into flags of `ospnext generate`.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace ospnext {

// Whether `config` is one of OSP-Next's files: it has at least one of their sections.
bool is_ospnext_yaml(const nlohmann::json& config);

// Flag names and values for `config`, which was read from `file`. Keys for parallel runs, keys for
// training and unknown keys are listed in one warning for each kind. Every prompt gets the same
// seed, and the video is written to OUTPUT_DIR/video.mp4. Throws InputError for a value of the
// wrong type, and for a pipeline, model or scheduler other than text-to-video by flow matching.
// Source: OSP-Next infer/infer_osp.py.
nlohmann::json flags_from_ospnext_yaml(const nlohmann::json& config,
                                       const std::filesystem::path& file);

}  // namespace ospnext
