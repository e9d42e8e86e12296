// LoRAs with strengths, added to weights while these are loaded.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/readers/lora_file.h"

namespace ospnext {

// Several LoRAs for one model; none at all changes nothing.
class Loras {
 public:
  Loras() = default;
  // Opens and checks the files. Throws InputError as open_lora does.
  explicit Loras(const std::vector<LoraChoice>& choices);
  Loras(Loras&&) = default;
  Loras& operator=(Loras&&) = default;

  // Throws InputError when a change fits no parameter of these names and shapes.
  void check_fits(const TensorShapes& shapes) const;

  // Warns of what the user should know of the files, of nothing twice.
  void warn_of_remarks() const;

  // Whether the parameter is changed.
  bool change(const std::string& parameter) const { return changes_.contains(parameter); }

  // Adds the changes of all LoRAs to rows first_row, first_row + 1, ... of a parameter that is changed.
  // `rows` is float32 on any device, the sums are made in it. Throws InputError for NaN or infinite
  // values in a LoRA.
  void add_to(const std::string& parameter, int64_t first_row, const at::Tensor& rows) const;

 private:
  struct Change {
    const LoraFile* file;
    const LoraChange* content;
    double factor;  // strength · scale
  };
  std::vector<LoraFile> files_;
  std::map<std::string, std::vector<Change>> changes_;  // by parameter, in the order asked for
};

}  // namespace ospnext
