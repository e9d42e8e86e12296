// The file given with --config: flag names and values in JSON, YAML, or inside a video.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

namespace ospnext {

// Translates a configuration that may use another project's names into our flag names and values.
// Returns a configuration that already uses our names unchanged. Throws InputError.
using ConfigTranslator =
    std::function<nlohmann::json(const nlohmann::json& config, const std::filesystem::path& file)>;

// The extension of `file` decides: .yaml and .yml are YAML; .mp4, .webm, .webp, .gif and .png are
// videos of `generate`, which contain their configuration; .y4m cannot contain one and is refused;
// anything else is JSON. From the JSON beside a video, the part "config" is used. Names may contain
// underscores or dashes; returned names contain underscores. A null counts as not given. Throws
// InputError.
nlohmann::json read_config_file(const std::filesystem::path& file,
                                const ConfigTranslator& translate = {});

}  // namespace ospnext
