#include "io/weight_stream.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/readers/hif8_codes.h"
#include "io/readers/lora_keys.h"
#include "io/readers/weight_companions.h"
#include "io/weights.h"

namespace ospnext {
namespace {

constexpr size_t kBlockBytes = size_t{64} << 20;

// Rows [begin, begin + count) of a tensor. It has at least one dimension, and none of size 0.
TensorRecord rows_of(const TensorRecord& record, int64_t begin, int64_t count) {
  TensorRecord part = record;
  const size_t item = item_size(record.dtype);
  part.shape[0] = count;
  part.data += static_cast<size_t>(begin * record.strides[0]) * item;
  size_t last = 0;  // offset of the last element
  for (size_t i = 0; i < part.shape.size(); ++i) {
    last += static_cast<size_t>((part.shape[i] - 1) * part.strides[i]);
  }
  part.bytes = (last + 1) * item;
  return part;
}

// Multiplies rows first_row, first_row + 1, ... of a weight by their scales; `rows` is float32.
void apply_scale(at::Tensor& rows, int64_t first_row, const WeightScale& scale,
                 const std::string& path) {
  const int64_t count = all_rows(rows.sizes()).count;
  const int64_t first = first_row / scale.block_rows;
  const int64_t last = (first_row + count - 1) / scale.block_rows;
  const at::Tensor values = to_tensor(rows_of(scale.values, first, last - first + 1))
                                .to(rows.device())
                                .to(at::kFloat);  // [blocks of rows, blocks of columns]
  if (!all_finite(values)) {
    throw InputError(path + ": tensor " + quoted(scale.name) +
                     " holds NaN or infinite values, expected finite numbers as scale");
  }
  const at::Tensor blocks =
      at::arange(first_row, first_row + count, at::TensorOptions(rows.device()).dtype(at::kLong))
          .div_(scale.block_rows, "floor")
          .sub_(first);
  const at::Tensor factors = values.index_select(0, blocks);   // [rows, blocks of columns]
  const at::Tensor matrix = rows.view({count, -1});            // [rows, columns]
  const int64_t whole = matrix.size(1) / scale.block_columns;  // the last block may be narrower
  const int64_t covered = whole * scale.block_columns;
  matrix.narrow(1, 0, covered)
      .unflatten(1, {whole, scale.block_columns})       // [rows, whole, block_columns]
      .mul_(factors.narrow(1, 0, whole).unsqueeze(2));  // [rows, whole, 1]
  if (whole < factors.size(1)) {
    matrix.narrow(1, covered, matrix.size(1) - covered).mul_(factors.narrow(1, whole, 1));
  }
}

// The reason why a source cannot be used as a weight; "" if it can.
std::string unreadable(const WeightSource& source) {
  const std::string found = quoted(source.file_name) + " is of " + dtype_text(source.record);
  if (!source.is_weight()) {
    return found +
           (source.unknown_companion.empty() ? ""
                                             : ", beside " + quoted(source.unknown_companion)) +
           ", expected floating-point, fp8 or HiF8 weights";
  }
  if (!source.unknown_companion.empty()) {
    return found + ", and " + quoted(source.unknown_companion) +
           ", which belongs to it, is not understood, expected a scale called weight_scale, "
           "scale_weight or weight_scale_inv";
  }
  return "";
}

// The name in `expected` of the weight of the layer that contains the tensor `name`; nothing if
// there is no such layer.
std::optional<std::string> weight_of_layer(const std::string& name, const TensorShapes& expected) {
  // At most this many parts are removed from the end of the name. lora_A.default.weight has three.
  constexpr int kParts = 4;
  size_t dot = name.size();
  for (int i = 0; i < kParts && dot > 0; ++i) {
    dot = name.rfind('.', dot - 1);
    if (dot == name.npos) {
      break;
    }
    if (std::string weight = name.substr(0, dot) + ".weight"; expected.contains(weight)) {
      return weight;
    }
  }
  return std::nullopt;
}

// Throws when the file contains LoRA matrices, or another adapter next to PEFT's base layers.
// Loading would ignore them.
void refuse_unmerged_adapter(const std::map<std::string, WeightSource>& sources,
                             const TensorShapes& expected, const std::string& path) {
  for (const auto& [name, source] : sources) {
    const auto weight = expected.contains(name) ? std::nullopt : weight_of_layer(name, expected);
    if (!weight) {
      continue;
    }
    const auto key = parse_lora_key(name);
    const bool is_lora = key && (key->part == LoraPart::kDown || key->part == LoraPart::kUp);
    if (is_lora || sources.at(*weight).file_name.ends_with(".base_layer.weight")) {
      throw InputError(path + ": tensor " + quoted(source.file_name) +
                       " is of a LoRA or another adapter that is not merged, expected a model "
                       "without one: merge it, or give model and LoRA as two files");
    }
  }
}

}  // namespace

void check_complete(const std::map<std::string, WeightSource>& sources,
                    const TensorShapes& expected, const std::string& path,
                    const std::set<std::string>& integers) {
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;
  std::string problem;  // of the first unreadable tensor
  for (const auto& [name, shape] : expected) {
    const auto source = sources.find(name);
    if (source == sources.end()) {
      missing.push_back(name);
      continue;
    }
    if (problem.empty() &&
        (!integers.contains(name) || source->second.record.dtype == DType::kOther)) {
      problem = unreadable(source->second);
    }
    if (source->second.record.shape != shape) {
      misshapen.push_back(quoted(source->second.file_name) + " (found " +
                          shape_text(source->second.record.shape) + ", expected " +
                          shape_text(shape) + ")");
    }
  }
  const std::string of_all = " of " + std::to_string(expected.size()) + " tensors ";
  if (!missing.empty()) {
    throw InputError(path + ": " + std::to_string(missing.size()) + of_all +
                     "are missing: " + list_text(missing));
  }
  if (!problem.empty()) {  // reported before shapes: it may be the cause of a wrong shape
    throw InputError(path + ": tensor " + problem);
  }
  if (!misshapen.empty()) {
    throw InputError(path + ": " + std::to_string(misshapen.size()) + of_all +
                     "have the wrong shape: " + list_text(misshapen));
  }
  refuse_unmerged_adapter(sources, expected, path);
}

// If the sum is finite, all terms are finite: one cheap pass. But a sum of finite numbers can
// overflow. If the sum is not finite, every value is checked.
bool all_finite(const at::Tensor& tensor) {
  if (!tensor.is_floating_point() || tensor.numel() == 0) {
    return true;
  }
  const at::Tensor values =
      item_size(file_dtype(tensor.scalar_type(), "tensor")) == 1 ? tensor.to(at::kFloat) : tensor;
  const auto type = values.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return std::isfinite(values.sum(type).item<double>()) || at::isfinite(values).all().item<bool>();
}

std::map<std::string, WeightSource> weight_sources(const Checkpoint& checkpoint,
                                                   const KeyMap& rename) {
  std::map<std::string, WeightSource> sources;
  const auto scales = fp8_scales(checkpoint);
  const auto code_scales = hif8_scales(checkpoint);
  const auto companions = unknown_companions(checkpoint);
  for (const auto& [file_name, record] : checkpoint.tensors()) {
    const std::string name = rename ? rename(file_name) : file_name;
    if (name.empty()) {
      continue;
    }
    WeightSource source{name, file_name, record, {}, {}, {}, {}};
    if (const auto scale = code_scales.find(file_name); scale != code_scales.end()) {
      source.hif8_scale = scale->second;
    }
    if (const auto scale = scales.find(file_name); scale != scales.end()) {
      source.scale = scale->second;
    }
    if (const auto companion = companions.find(file_name); companion != companions.end()) {
      source.unknown_companion = companion->second;
    }
    const auto [place, is_new] = sources.emplace(name, std::move(source));
    if (!is_new) {
      const WeightSource& first = place->second;
      throw InputError(checkpoint.path() + ": the tensors " + quoted(first.file_name) + " and " +
                       quoted(file_name) + " are both " + name);
    }
  }
  return sources;
}

RowRange all_rows(at::IntArrayRef shape) {
  return {0, shape.empty() ? 1 : shape[0]};
}

void stream_weight(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, const RowSink& sink) {
  stream_weight(source, all_rows(source.record.shape), checkpoint, loras, device, sink);
}

void stream_weight(const WeightSource& source, const RowRange& wanted, const Checkpoint& checkpoint,
                   const Loras& loras, at::Device device, const RowSink& sink) {
  const TensorRecord& record = source.record;
  TORCH_CHECK(!source.hif8_scale || source.decode, source.name, ": codes without a decoder");
  if (record.element_count() == 0) {
    return;
  }
  const auto give = [&](int64_t first_row, const TensorRecord& part) {
    checkpoint.fetch_pages(part);
    at::Tensor rows = to_tensor(part).to(device);  // the dtype is converted on the device
    if (source.decode) {
      rows = source.decode(rows);
    } else if (source.scale || loras.change(source.name)) {
      rows =
          rows.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous);
    }
    if (source.scale) {
      apply_scale(rows, first_row, *source.scale, checkpoint.path());
    }
    if (loras.change(source.name)) {
      loras.add_to(source.name, first_row, rows);
    }
    sink(first_row, rows);
    checkpoint.drop_pages(part);
  };
  const int64_t num_rows = all_rows(record.shape).count;
  if (wanted.count == num_rows && (record.bytes <= kBlockBytes || record.shape.empty())) {
    give(0, record);
    return;
  }
  const int64_t row_bytes = std::max<int64_t>(1, static_cast<int64_t>(record.bytes) / num_rows);
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(kBlockBytes) / row_bytes);
  const int64_t end = wanted.first + wanted.count;
  for (int64_t begin = wanted.first; begin < end; begin += step) {
    give(begin, rows_of(record, begin, std::min(step, end - begin)));
  }
}

}  // namespace ospnext
