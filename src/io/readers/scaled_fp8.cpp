#include "io/readers/scaled_fp8.h"

#include <array>
#include <cmath>
#include <string_view>

#include "core/error.h"
#include "io/readers/bounded_json.h"

namespace ospnext {
namespace {

constexpr const char* kMetadata = "_quantization_metadata";
constexpr std::string_view kMark = "scaled_fp8";
constexpr std::string_view kQuantEnd = ".comfy_quant";
constexpr std::array<std::string_view, 2> kScaleEnds{".scale_weight", ".weight_scale"};
constexpr std::array<std::string_view, 3> kOtherEnds{".scale_input", ".input_scale", kQuantEnd};

bool is_fp8(DType dtype) {
  return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2;
}

bool is_mark(std::string_view name) {
  return name == kMark || (name.ends_with(kMark) && name[name.size() - kMark.size() - 1] == '.');
}

// `what` is a layer's description, as {"format": "float8_e4m3fn", ...}.
void check_format(const nlohmann::json& what, const std::string& origin) {
  const auto format = what.is_object() ? what.value("format", nlohmann::json()) : nlohmann::json();
  if (format != "float8_e4m3fn" && format != "float8_e5m2") {
    throw InputError(origin + ": found the format " + shown(format) +
                     ", expected \"float8_e4m3fn\" or \"float8_e5m2\"");
  }
}

// Whether the file says that its weights are scaled.
bool is_marked(const Checkpoint& checkpoint) {
  bool marked = false;
  if (const auto found = checkpoint.metadata().find(kMetadata);
      found != checkpoint.metadata().end()) {
    const std::string origin = checkpoint.path() + ": metadata " + kMetadata;
    const auto json = parse_bounded_json(found->second, origin, 8);
    if (!json.is_object() || !json.contains("layers") || !json["layers"].is_object()) {
      throw InputError(origin + ": expected an object \"layers\"");
    }
    for (const auto& [layer, what] : json["layers"].items()) {
      check_format(what, origin + ": layer " + quoted(layer));
      marked = true;
    }
  }
  for (const auto& [name, record] : checkpoint.tensors()) {
    marked = marked || is_mark(name);
    if (!name.ends_with(kQuantEnd)) {
      continue;
    }
    const std::string origin = checkpoint.path() + ": tensor " + quoted(name);
    if (record.dtype != DType::kU8 || !record.is_contiguous()) {
      throw InputError(origin + ": expected JSON in bytes");
    }
    const std::string_view text(reinterpret_cast<const char*>(record.data), record.bytes);
    check_format(parse_bounded_json(text, origin, 8), origin);
    marked = true;
  }
  return marked;
}

}  // namespace

std::map<std::string, double> fp8_scales(const Checkpoint& checkpoint) {
  std::map<std::string, double> scales;
  for (const auto& [name, record] : checkpoint.tensors()) {
    for (const std::string_view end : kScaleEnds) {
      if (!name.ends_with(end)) {
        continue;
      }
      const std::string weight = name.substr(0, name.size() - end.size()) + ".weight";
      const auto value = scalar_value(record);
      if (!value || !std::isfinite(*value)) {
        throw InputError(checkpoint.path() + ": tensor " + quoted(name) + ": found " +
                         dtype_name(record.dtype) + " of shape " + shape_text(record.shape) +
                         ", expected one finite number as scale");
      }
      const auto scaled = checkpoint.tensors().find(weight);
      if (scaled == checkpoint.tensors().end() || !is_fp8(scaled->second.dtype)) {
        throw InputError(checkpoint.path() + ": tensor " + quoted(name) + " scales " +
                         quoted(weight) + ", which is " +
                         (scaled == checkpoint.tensors().end()
                              ? "not there"
                              : "of " + std::string(dtype_name(scaled->second.dtype))) +
                         ", expected fp8");
      }
      scales[weight] = *value;
    }
  }
  if (!is_marked(checkpoint)) {
    return scales;
  }
  for (const auto& [name, record] : checkpoint.tensors()) {
    if (is_fp8(record.dtype) && record.shape.size() >= 2 && !scales.contains(name)) {
      throw InputError(checkpoint.path() + ": tensor " + quoted(name) +
                       " has no scale, expected one in a file of scaled fp8 weights");
    }
  }
  return scales;
}

bool is_fp8_companion(const std::string& name) {
  for (const std::string_view end : kScaleEnds) {
    if (name.ends_with(end)) {
      return true;
    }
  }
  for (const std::string_view end : kOtherEnds) {
    if (name.ends_with(end)) {
      return true;
    }
  }
  return is_mark(name);
}

}  // namespace ospnext
