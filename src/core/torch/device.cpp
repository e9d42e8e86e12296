#include "core/torch/device.h"

#include <optional>

#include "core/error.h"

namespace ospnext {

at::Device parse_device(const std::string& text) {
  std::optional<at::Device> device;
  try {
    device.emplace(text);
  } catch (const c10::Error&) {
  }
  if (!device || (!device->is_cpu() && !device->is_cuda())) {
    throw InputError("`device`: found \"" + text + "\", expected cpu, cuda or cuda:N");
  }
  if (device->is_cuda()) {
    if (!at::globalContext().hasCUDA()) {
      throw InputError("`device` " + text +
                       ": this program was built without CUDA, or no GPU was found");
    }
    const auto count =
        static_cast<int>(at::globalContext().getAcceleratorHooksInterface(at::kCUDA).deviceCount());
    if (device->has_index() && device->index() >= count) {
      throw InputError("`device` " + text + ": found " + std::to_string(count) + " GPU(s)");
    }
  }
  return *device;
}

std::optional<at::ScalarType> precision_dtype(const std::string& text) {
  if (text == "float32" || text == "fp32") {
    return at::kFloat;
  }
  if (text == "bf16" || text == "bfloat16") {
    return at::kBFloat16;
  }
  return std::nullopt;
}

at::ScalarType parse_precision(const std::string& text, const std::string& field) {
  if (const auto dtype = precision_dtype(text)) {
    return *dtype;
  }
  throw InputError(field + ": found \"" + text + "\", expected float32 or bf16");
}

}  // namespace ospnext
