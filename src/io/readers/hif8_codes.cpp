#include "io/readers/hif8_codes.h"

#include <cmath>
#include <string_view>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr std::string_view kScaleEnd = "_hif8_scale";

}  // namespace

bool is_hif8_companion(const std::string& name) {
  return name.ends_with(kScaleEnd);
}

std::string hif8_scale_name(const std::string& weight) {
  return weight + std::string(kScaleEnd);
}

std::map<std::string, double> hif8_scales(const Checkpoint& checkpoint) {
  std::map<std::string, double> scales;
  for (const auto& [name, record] : checkpoint.tensors()) {
    if (!is_hif8_companion(name)) {
      continue;
    }
    const std::string origin = checkpoint.path() + ": tensor " + quoted(name);
    const auto value = scalar_value(record);
    if (record.dtype != DType::kF32 || !value || !std::isfinite(*value) || *value <= 0) {
      throw InputError(origin + ": found " + dtype_text(record) + " of shape " +
                       shape_text(record.shape) + ", expected one positive F32 number as scale");
    }
    const std::string weight = name.substr(0, name.size() - kScaleEnd.size());
    const auto codes = checkpoint.tensors().find(weight);
    if (codes == checkpoint.tensors().end() || codes->second.dtype != DType::kU8) {
      throw InputError(
          origin + " scales " + quoted(weight) + ", which is " +
          (codes == checkpoint.tensors().end() ? "not there" : "of " + dtype_text(codes->second)) +
          ", expected HiF8 codes in U8");
    }
    scales[weight] = *value;
  }
  for (const auto& [name, record] : checkpoint.tensors()) {
    if (!scales.empty() && record.dtype == DType::kU8 && record.shape.size() >= 2 &&
        !scales.contains(name)) {
      throw InputError(checkpoint.path() + ": tensor " + quoted(name) + " has no " +
                       hif8_scale_name("") + ", expected one in a file of HiF8 codes");
    }
  }
  return scales;
}

}  // namespace ospnext
