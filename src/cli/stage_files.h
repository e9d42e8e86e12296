// Code that all stage commands share: flags for output and arithmetic, and reading of input
// tensors.
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
  bool runs_transformer = false;  // if set, HiF8 precisions are allowed

  // Throws InputError if the output is missing or cannot be written. Call it before any work.
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
  // Throws InputError if the file is missing or broken.
  explicit StageInput(const std::string& file);

  bool has(const std::string& name) const { return tensors_.contains(name); }
  // A floating-point tensor without NaN and infinite values, in the shape given by `dimensions`,
  // such as "B,16,F,H,W". A number must match; a letter stands for any size from 1 on, and the same
  // letter always for the same size; "..." stands for any further dimensions. Throws InputError.
  at::Tensor floats(const std::string& name, const std::string& dimensions);
  // The same, in the shape of `other`, a tensor of the file with the name `other_name`.
  at::Tensor floats_like(const std::string& name, const at::Tensor& other,
                         const std::string& other_name);
  // The number of a tensor [1] of floats, rounded to float32. Throws InputError also unless
  // low <= number <= high.
  double number(const std::string& name, double low, double high);
  // As floats(), for a tensor of any dtype.
  at::Tensor any(const std::string& name, const std::string& dimensions);
  // The same, also for NaN and infinite values.
  at::Tensor raw(const std::string& name, const std::string& dimensions);
  // Warns about the tensors of the file that were never read.
  void warn_of_rest() const;

 private:
  std::string file_;
  std::map<std::string, at::Tensor> tensors_;
  std::map<std::string, int64_t> sizes_;  // letter -> size
  std::vector<std::string> used_;
};

}  // namespace ospnext
