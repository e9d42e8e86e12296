// The scale of a LoRA's pairs of matrices, for layers that have no alpha tensor.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/readers/adapter_config.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// Looks for a layer's alpha in three places, in this order: diffusers' metadata
// lora_adapter_metadata, adapter_config.json beside the weights, and single metadata such as
// lora_alpha and ss_network_alpha. The first place that has one is used. Without alpha the scale
// is 1.
class LoraScales {
 public:
  // Reads the configurations. adapter_config.json belongs to adapter_model.*, or to `weights` of
  // another name if they are the only LoRA of the folder. Throws InputError as
  // read_adapter_config() does. `checkpoint` must outlive this object.
  LoraScales(const std::filesystem::path& weights, const Checkpoint& checkpoint);

  // The scale of a pair with this rank; `layer` is the name in the file. Throws InputError when
  // alpha is not a finite number, when two metadata keys differ, or when the configuration gives
  // another rank.
  double scale(const std::string& layer, int64_t rank);

  // The largest of the configurations' (AdapterConfig).
  double lowest_noise_level() const;

  // Remarks for the user, one line each. `layers`: all layers with a pair, by their names in the
  // file.
  std::vector<std::string> remarks(const std::vector<std::string>& layers) const;

 private:
  void add_config_file(const std::filesystem::path& weights);
  void add_single_numbers();

  const Checkpoint& checkpoint_;
  std::vector<AdapterConfig> configs_;  // in the order of the search
  AdapterConfig single_;  // from single metadata; alpha and rank are read only when needed
  bool single_is_read_ = false;
  bool kohyas_count_ = true;  // whether the metadata of kohya's scripts are used
  size_t without_alpha_ = 0;
  std::vector<std::string> remarks_;
};

}  // namespace ospnext
