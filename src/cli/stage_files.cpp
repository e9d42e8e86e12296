#include "cli/stage_files.h"

#include <algorithm>
#include <sstream>

#include "core/error.h"
#include "core/log.h"
#include "core/number_check.h"
#include "core/torch/shape_check.h"
#include "io/output_file.h"
#include "io/weights.h"

namespace ospnext {

void StageOutput::check() const {
  if (output.empty()) {
    throw InputError("--output: missing, expected the name of a safetensors file");
  }
  check_writable(output, "--output");
}

StageInput::StageInput(const std::string& file) : file_(file) {
  if (file.empty()) {
    throw InputError("--input: missing, expected the name of a safetensors file");
  }
  tensors_ = read_tensors(file);
}

at::Tensor StageInput::raw(const std::string& name, const std::string& dimensions) {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw InputError(file_ + ": there is no tensor \"" + name + "\", expected " + name + " [" +
                     dimensions + "]");
  }
  used_.push_back(name);
  const at::Tensor& tensor = found->second;
  std::istringstream list(dimensions);
  int64_t axis = 0;
  bool fits = true;
  bool open_end = false;
  for (std::string dimension; std::getline(list, dimension, ',') && fits; ++axis) {
    if (dimension == "...") {
      open_end = true;
      break;
    }
    if (axis >= tensor.dim()) {
      fits = false;
    } else if (std::isdigit(static_cast<unsigned char>(dimension[0])) != 0) {
      fits = tensor.size(axis) == std::stoll(dimension);
    } else {
      const int64_t size = tensor.size(axis);
      fits = size > 0 && sizes_.emplace(dimension, size).first->second == size;
    }
  }
  fits = fits && (open_end || axis == tensor.dim());
  if (!fits) {
    std::string known;
    for (const auto& [letter, size] : sizes_) {
      known += (known.empty() ? ", " : ", ") + letter + " = " + std::to_string(size);
    }
    throw InputError(file_ + ": " + name + ": found shape " + shape_text(tensor.sizes()) +
                     ", expected [" + dimensions + "]" +
                     (known.empty() ? "" : " with" + known.substr(1)));
  }
  return tensor;
}

at::Tensor StageInput::any(const std::string& name, const std::string& dimensions) {
  const at::Tensor tensor = raw(name, dimensions);
  if (tensor.is_floating_point() && !torch::isfinite(tensor).all().item<bool>()) {
    throw InputError(file_ + ": " + name + ": holds NaN or infinite values");
  }
  return tensor;
}

at::Tensor StageInput::floats(const std::string& name, const std::string& dimensions) {
  const at::Tensor tensor = any(name, dimensions);
  if (!tensor.is_floating_point()) {
    throw InputError(file_ + ": " + name + ": found " + std::string(tensor.dtype().name()) +
                     ", expected a floating type such as float32");
  }
  return tensor;
}

at::Tensor StageInput::floats_like(const std::string& name, const at::Tensor& other,
                                   const std::string& other_name) {
  at::Tensor tensor = floats(name, "...");
  if (tensor.sizes() != other.sizes()) {
    throw InputError(file_ + ": " + name + ": found shape " + shape_text(tensor.sizes()) +
                     ", expected " + shape_text(other.sizes()) + " as " + other_name);
  }
  return tensor;
}

double StageInput::number(const std::string& name, double low, double high) {
  const double value = floats(name, "1").to(at::kFloat).item<float>();
  check_range(file_ + ": " + name, value, low, high);
  return value;
}

void StageInput::warn_of_rest() const {
  for (const auto& [name, tensor] : tensors_) {
    if (std::find(used_.begin(), used_.end(), name) == used_.end()) {
      warn(file_ + ": the tensor " + quoted(name) + " is not used here");
    }
  }
}

}  // namespace ospnext
