// LoRAs with strengths. They are added to the weights during loading.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/readers/lora_file.h"

namespace ospnext {

// A change of low rank of a weight [out, in]: factor · up · down.
struct LowRankChange {
  std::string parameter;          // "blocks.0.self_attn.q.weight"
  at::Tensor down, up;            // [r, in], [out, r] float32 on the CPU
  double factor;                  // strength · alpha / r
  double lowest_noise_level = 0;  // LowRank
};

// The LoRAs of one model. An empty set changes nothing.
class Loras {
 public:
  Loras() = default;
  // Opens and checks the files. Throws InputError as open_lora does.
  explicit Loras(const std::vector<LoraChoice>& choices);
  Loras(Loras&&) = default;
  Loras& operator=(Loras&&) = default;

  // `shapes`: parameter name -> shape. Throws InputError when a change fits no parameter.
  void check_fits(const TensorShapes& shapes) const;

  // Prints the remarks on the files as warnings, each of them once.
  void warn_of_remarks() const;

  // Takes the changes of low rank of matrices out of the set and returns them, in the order of the
  // parameters and then of the choices. What is left are differences of whole parameters, and
  // changes of low rank of parameters that are no matrices. Throws as add_to() does.
  std::vector<LowRankChange> take_low_rank();
  // A parameter that is changed, or "" if there is none.
  std::string any_changed() const { return changes_.empty() ? "" : changes_.begin()->first; }

  // Whether one of the LoRAs acts at some noise levels alone, so cannot be added to weights.
  bool need_the_noise_level() const;

  // Whether a LoRA changes the parameter.
  bool change(const std::string& parameter) const { return changes_.contains(parameter); }

  // Adds the changes of all LoRAs in place to `rows`: rows first_row, first_row + 1, ... of a
  // parameter for which change() is true, in float32 on any device. Throws InputError for values
  // of a LoRA that are not floating-point numbers, NaN or infinite, and for a LoRA that acts at
  // some noise levels alone.
  void add_to(const std::string& parameter, int64_t first_row, const at::Tensor& rows) const;

 private:
  struct Change {
    const LoraFile* file;
    const LoraChange* content;
    double factor;  // strength · scale
  };
  std::vector<LoraFile> files_;
  std::map<std::string, std::vector<Change>> changes_;  // by parameter, in the order of the choices
};

}  // namespace ospnext
