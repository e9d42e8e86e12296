// Fixtures that keep their cases' settings as JSON in the metadata of a safetensors file.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "io/readers/tensor_file.h"
#include "io/weights.h"
#include "support/paths.h"

namespace ospnext {

struct Fixture {
  std::map<std::string, at::Tensor> tensors;
  nlohmann::json settings;  // null if the file has none

  explicit Fixture(const std::string& name) : tensors(read_tensors(fixture_path(name))) {
    const auto metadata = open_checkpoint(fixture_path(name)).metadata();
    if (const auto found = metadata.find("settings"); found != metadata.end()) {
      settings = nlohmann::json::parse(found->second);
    }
  }
  const at::Tensor& at(const std::string& name) const { return tensors.at(name); }
};

}  // namespace ospnext
