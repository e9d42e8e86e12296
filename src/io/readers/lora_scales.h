// Where the scale of a LoRA's pairs comes from, when it does not stand beside them as a tensor.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/readers/adapter_config.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// Asks in turn diffusers' metadata lora_adapter_metadata, adapter_config.json beside the weights,
// and single metadata such as lora_alpha and ss_network_alpha. The first that has an alpha for a
// layer gives it; none at all means the factor 1.
class LoraScales {
 public:
  // Reads what is there. adapter_config.json belongs to adapter_model.*, else to the only LoRA of
  // its folder. Throws InputError for a configuration that asks for another sum
  // (read_adapter_config).
  LoraScales(const std::filesystem::path& weights, const Checkpoint& checkpoint);

  // The factor of a pair with this rank; `layer` as the file writes it. Throws InputError when the
  // alpha is no finite number, when two metadata differ, or when the rank is another there.
  double scale(const std::string& layer, int64_t rank);

  // What the user should know, one line each. `layers` are all that have a pair, as the file writes
  // them.
  std::vector<std::string> remarks(const std::vector<std::string>& layers) const;

 private:
  void add_config_file(const std::filesystem::path& weights);
  void add_single_numbers();

  const Checkpoint& checkpoint_;
  std::vector<AdapterConfig> configs_;  // in the order they are asked
  AdapterConfig single_;  // of single metadata; its alpha and rank are read when needed
  bool single_is_read_ = false;
  bool kohyas_count_ = true;  // of the metadata, those of kohya's scripts
  size_t without_alpha_ = 0;
  std::vector<std::string> remarks_;
};

}  // namespace ospnext
