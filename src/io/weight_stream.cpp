#include "io/weight_stream.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/readers/hif8_codes.h"
#include "io/readers/scaled_fp8.h"
#include "io/weights.h"

namespace ospnext {
namespace {

constexpr size_t kBlockBytes = size_t{64} << 20;

// Rows [begin, begin + count) of a tensor with at least one dimension and no empty one.
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

}  // namespace

void check_complete(const std::map<std::string, WeightSource>& sources,
                    const TensorShapes& expected, const std::string& path) {
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;
  for (const auto& [name, shape] : expected) {
    const auto source = sources.find(name);
    if (source == sources.end()) {
      missing.push_back(name);
    } else if (source->second.record.shape != shape) {
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
  if (!misshapen.empty()) {
    throw InputError(path + ": " + std::to_string(misshapen.size()) + of_all +
                     "have the wrong shape: " + list_text(misshapen));
  }
}

// A sum is finite only if all its terms are: one cheap pass. A sum of finite numbers can overflow, so
// an infinite one is looked at again.
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
  for (const auto& [file_name, record] : checkpoint.tensors()) {
    const std::string name = rename ? rename(file_name) : file_name;
    if (name.empty()) {
      continue;
    }
    WeightSource source{name, file_name, record, {}, {}, {}};
    if (const auto scale = code_scales.find(file_name); scale != code_scales.end()) {
      source.hif8_scale = scale->second;
    }
    if (const auto scale = scales.find(file_name); scale != scales.end()) {
      source.scale = scale->second;
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
    at::Tensor rows = to_tensor(part).to(device);  // converted over there
    if (source.decode) {
      rows = source.decode(rows);
    } else if (source.scale || loras.change(source.name)) {
      rows =
          rows.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous);
    }
    if (source.scale) {
      rows.mul_(*source.scale);
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
