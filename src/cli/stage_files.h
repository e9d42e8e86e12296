// What the stage commands share: the flags for output and arithmetic, and reading of input tensors.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "packages/load_model.h"

namespace ospnext {

struct StageOutput {
  std::string output;
  std::string device = "cpu";
  std::string precision = "auto";
  bool runs_transformer = false;  // which takes one more precision

  // Throws InputError for a missing or unwritable output. Call before any work.
  void check() const;
  // Throws InputError.
  ComputeOptions compute() const {
    return runs_transformer ? parse_transformer_compute(device, precision)
                            : parse_compute(device, precision);
  }

  template <class Visitor>
  void visit(Visitor&& field) {
    field("output", output, "safetensors file to write");
    field("device", device, "cpu, cuda or cuda:N; auto: cuda where there is a GPU");
    field("precision", precision,
          runs_transformer ? "float32, bf16, hif8, hif8-p8 or hif8-simulated; auto: float32 on the "
                             "CPU, bf16 on CUDA"
                           : "float32 or bf16; auto: float32 on the CPU, bf16 on CUDA");
  }
};

// The tensors of a stage's --input file.
class StageInput {
 public:
  // Throws InputError when the file is missing or broken.
  explicit StageInput(const std::string& file);

  bool has(const std::string& name) const { return tensors_.contains(name); }
  // A tensor of the shape that `dimensions` spell ("B,16,F,H,W": numbers are demanded, letters may be
  // any size from 1 on but the same letter the same size; "..." stands for any further dimensions).
  // Floating, finite. Throws InputError.
  at::Tensor floats(const std::string& name, const std::string& dimensions);
  // The same, of any data type.
  at::Tensor any(const std::string& name, const std::string& dimensions);
  // The same, NaN and infinite values included.
  at::Tensor raw(const std::string& name, const std::string& dimensions);
  // Names tensors of the file that nobody asked for in a warning.
  void warn_of_rest() const;

 private:
  std::string file_;
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, int64_t> sizes_;  // letter -> size
  std::vector<std::string> used_;
};

}  // namespace ospnext
