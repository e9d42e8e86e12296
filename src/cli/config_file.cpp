#include "cli/config_file.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "core/extension.h"
#include "io/readers/bounded_json.h"
#include "io/readers/bounded_yaml.h"
#include "io/readers/video_comment.h"
#include "io/video.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read_any(const fs::path& file) {
  const std::string extension = extension_of(file);
  if (extension == ".yaml" || extension == ".yml") {
    return read_yaml_file(file);
  }
  if (!is_video_name(file)) {
    return read_json_file(file);
  }
  const std::string comment = read_video_comment(file);
  if (!comment.starts_with('{')) {
    throw InputError(file.string() + ": found no configuration inside, expected a video that " +
                     "ospnext made; the JSON beside it holds the same");
  }
  return parse_bounded_json(comment, file.string());
}

}  // namespace

json read_config_file(const fs::path& file, const ConfigTranslator& translate) {
  json config = read_any(file);
  if (!config.is_object()) {
    throw InputError("--config " + file.string() + ": expected flag names and values, found " +
                     (config.is_null() ? "nothing" : config.type_name()));
  }
  // The JSON file that `generate` writes beside a video has its configuration under this key.
  if (config.contains("config") && config["config"].is_object()) {
    config = json(config["config"]);
  }
  if (translate) {
    config = translate(config, file);
  }
  json renamed = json::object();
  for (const auto& [key, value] : config.items()) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '-', '_');
    if (renamed.contains(name)) {
      throw InputError("--config " + file.string() + ": names \"" + name + "\" twice");
    }
    if (!value.is_null()) {
      renamed[name] = value;
    }
  }
  return renamed;
}

}  // namespace ospnext
