#include "io/readers/scaled_fp8.h"

#include <algorithm>
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
constexpr std::array<std::string_view, 3> kScaleEnds{".scale_weight", ".weight_scale",
                                                     ".weight_scale_inv"};
constexpr std::array<std::string_view, 4> kOtherEnds{".scale_input", ".input_scale",
                                                     ".activation_scale", kQuantEnd};
// The suffix after float8_e4m3fn is redundant: the shape of the scale gives the same information.
constexpr std::array<std::string_view, 5> kFormats{
    "float8_e4m3fn", "float8_e5m2", "float8_e4m3fn_rowwise", "float8_e4m3fn_blockwise",
    "float8_e4m3fn_block3d"};
constexpr int64_t kUsualBlock = 128;  // DeepSeek's block size; the last blocks may be smaller

bool is_mark(std::string_view name) {
  return name == kMark || (name.ends_with(kMark) && name[name.size() - kMark.size() - 1] == '.');
}

// `what`: the description of a layer, such as {"format": "float8_e4m3fn", ...}.
void check_format(const nlohmann::json& what, const std::string& origin) {
  const auto format = what.is_object() ? what.value("format", nlohmann::json()) : nlohmann::json();
  const auto text = format.is_string() ? format.get<std::string>() : std::string();
  if (std::find(kFormats.begin(), kFormats.end(), text) == kFormats.end()) {
    throw InputError(origin + ": found the format " + shown(format) +
                     ", expected \"float8_e4m3fn\" or \"float8_e5m2\"");
  }
}

// Whether the file is marked as scaled fp8.
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

int64_t blocks_of(int64_t side, int64_t block) {
  return side / block + (side % block != 0 ? 1 : 0);
}

// `scale` as a matrix of the blocks of `weight`; nothing if its shape or dtype does not fit.
std::optional<WeightScale> as_blocks(const std::string& name, TensorRecord scale,
                                     const TensorRecord& weight) {
  const auto elements = byte_count(weight.shape, 1);
  if (!is_floating(scale.dtype) || is_fp8(scale.dtype) || !elements || *elements == 0 ||
      scale.element_count() == 0) {
    return std::nullopt;
  }
  const int64_t rows = weight.shape.empty() ? 1 : weight.shape[0];
  const int64_t columns = *elements / rows;
  while (!scale.shape.empty() && scale.shape.back() == 1) {
    scale.shape.pop_back();
  }
  if (scale.shape.size() > 2 || (scale.shape.size() == 2 && weight.shape.size() != 2)) {
    return std::nullopt;
  }
  scale.strides.resize(scale.shape.size());
  scale.shape.resize(2, 1);
  scale.strides.resize(2, 1);
  const int64_t down = scale.shape[0];
  const int64_t across = scale.shape[1];
  if (down * across != 1 && down == blocks_of(rows, kUsualBlock) &&
      across == blocks_of(columns, kUsualBlock)) {
    return WeightScale{name, scale, kUsualBlock, kUsualBlock};
  }
  if (rows % down != 0 || columns % across != 0) {
    return std::nullopt;
  }
  return WeightScale{name, scale, rows / down, columns / across};
}

// Checks the tensor `scale` against the tensor named `weight`.
WeightScale read_scale(const Checkpoint& checkpoint, const TensorMap::value_type& scale,
                       const std::string& weight) {
  const auto& [name, record] = scale;
  const std::string origin = checkpoint.path() + ": tensor " + quoted(name);
  const auto scaled = checkpoint.tensors().find(weight);
  if (scaled == checkpoint.tensors().end() || !is_fp8(scaled->second.dtype)) {
    throw InputError(
        origin + " scales " + quoted(weight) + ", which is " +
        (scaled == checkpoint.tensors().end() ? "not there" : "of " + dtype_text(scaled->second)) +
        ", expected fp8");
  }
  auto blocks = as_blocks(name, record, scaled->second);
  if (!blocks) {
    throw InputError(origin + ": found " + dtype_text(record) + " of shape " +
                     shape_text(record.shape) +
                     ", expected floating-point numbers, one for each row or block of the weight " +
                     shape_text(scaled->second.shape) + " or one for all, as scale");
  }
  if (const auto value = scalar_value(record); value && !std::isfinite(*value)) {
    throw InputError(origin + ": found " + std::to_string(*value) +
                     ", expected one finite number as scale");
  }
  return *blocks;
}

}  // namespace

std::map<std::string, WeightScale> fp8_scales(const Checkpoint& checkpoint) {
  const bool marked = is_marked(checkpoint);
  std::map<std::string, WeightScale> scales;
  for (const auto& entry : checkpoint.tensors()) {
    const std::string& name = entry.first;
    for (const std::string_view end : kScaleEnds) {
      if (!name.ends_with(end)) {
        continue;
      }
      const std::string weight = name.substr(0, name.size() - end.size()) + ".weight";
      const auto [place, is_new] = scales.emplace(weight, read_scale(checkpoint, entry, weight));
      if (!is_new) {
        const std::string& other = place->second.name;
        throw InputError(checkpoint.path() + ": the tensors " + quoted(other) + " and " +
                         quoted(name) + " both scale " + quoted(weight));
      }
    }
  }
  for (const auto& [name, record] : checkpoint.tensors()) {
    if ((marked || !scales.empty()) && is_fp8(record.dtype) && record.shape.size() >= 2 &&
        !scales.contains(name)) {
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
