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

// By the name of `file`, in any case: .yaml and .yml are YAML; what is_video_name() knows is a
// video of `generate`, which carries its configuration; anything else is JSON. Of the JSON beside a
// video the part "config" is taken. Names come with underscores or dashes and leave with
// underscores; a null is as if its name were not there. Throws InputError.
nlohmann::json read_config_file(const std::filesystem::path& file,
                                const ConfigTranslator& translate = {});

}  // namespace ospnext
