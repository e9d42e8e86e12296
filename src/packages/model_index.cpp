#include "packages/model_index.h"

#include <algorithm>
#include <string>

#include "core/error.h"
#include "io/readers/bounded_json.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kTwoTransformers =
    "expected a model of one transformer: Wan2.2's models of two, one for high and one for low "
    "noise, "
    "are not read here";

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// diffusers writes [null, null] for an absent part and null for an absent value.
bool is_set(const json& value) {
  return value.is_array() ? std::any_of(value.begin(), value.end(),
                                        [](const json& entry) { return !entry.is_null(); })
                          : !value.is_null();
}

void check_index(const json& index, const std::string& origin) {
  const auto value = [&](const char* key) { return index.value(key, json()); };
  const auto refuse = [&](const char* key, const std::string& expected) {
    throw InputError(origin + ": " + key + ": found " + shown(value(key)) + ", " + expected);
  };
  const json class_name = value("_class_name");
  if (is_set(class_name) && class_name != "WanPipeline" && class_name != "OSPNextPipeline") {
    refuse("_class_name",
           "expected \"WanPipeline\" or \"OSPNextPipeline\": only text-to-video is read here");
  }
  for (const char* key : {"transformer_2", "boundary_ratio"}) {
    if (is_set(value(key))) {
      refuse(key, kTwoTransformers);
    }
  }
  if (const json expand = value("expand_timesteps"); is_set(expand) && expand != false) {
    refuse("expand_timesteps",
           "expected false: models with a time step of each token (Wan2.2's 5B) are not read here");
  }
}

}  // namespace

void refuse_other_pipelines(const fs::path& package) {
  const fs::path index = package / "model_index.json";
  std::error_code ignored;
  const bool has_index = fs::exists(index, ignored);
  if (has_index) {
    check_index(read_json_object(index), index.string());
  }
  for (const char* folder : {"high_noise_model", "low_noise_model", "transformer_2"}) {
    const bool may_be_there = has_index && std::string(folder) == "transformer_2";
    if (!may_be_there && is_folder(package / folder)) {
      throw InputError((package / folder).string() + ": found a folder of this name, " +
                       kTwoTransformers);
    }
  }
}

}  // namespace ospnext
