// The file behind --config: flag names and values in JSON, YAML, or inside a video.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

namespace ospnext {

// Makes flag names and values of a configuration that may be in another project's words; gives back
// what is in ours already. Throws InputError.
using ConfigTranslator =
    std::function<nlohmann::json(const nlohmann::json& config, const std::filesystem::path& file)>;

// By the name of `file`: .yaml and .yml are YAML; .mp4, .webm, .webp, .gif and .png are videos of
// `generate`, which carry their configuration; anything else is JSON. Of the JSON beside a video the part
// "config" is taken. Names come with underscores or dashes and leave with underscores; a null is as if
// its name were not there. Throws InputError.
nlohmann::json read_config_file(const std::filesystem::path& file,
                                const ConfigTranslator& translate = {});

}  // namespace ospnext
