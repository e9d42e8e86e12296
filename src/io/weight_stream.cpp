#include "io/weight_stream.h"

#include <algorithm>

#include "core/error.h"
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

std::map<std::string, WeightSource> weight_sources(const Checkpoint& checkpoint,
                                                   const KeyMap& rename) {
  std::map<std::string, WeightSource> sources;
  for (const auto& [file_name, record] : checkpoint.tensors()) {
    const std::string name = rename ? rename(file_name) : file_name;
    if (name.empty()) {
      continue;
    }
    const auto [place, is_new] = sources.emplace(name, WeightSource{name, file_name, record});
    if (!is_new) {
      const WeightSource& first = place->second;
      throw InputError(checkpoint.path() + ": the tensors " + quoted(first.file_name) + " and " +
                       quoted(file_name) + " are both " + name);
    }
  }
  return sources;
}

void stream_weight(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, const RowSink& sink) {
  const TensorRecord& record = source.record;
  if (record.element_count() == 0) {
    return;
  }
  const auto give = [&](int64_t first_row, const TensorRecord& part) {
    checkpoint.fetch_pages(part);
    at::Tensor rows = to_tensor(part).to(device);  // converted over there
    if (loras.change(source.name)) {
      rows =
          rows.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true, at::MemoryFormat::Contiguous);
      loras.add_to(source.name, first_row, rows);
    }
    sink(first_row, rows);
    checkpoint.drop_pages(part);
  };
  if (record.bytes <= kBlockBytes || record.shape.empty()) {
    give(0, record);
    return;
  }
  const int64_t num_rows = record.shape[0];
  const int64_t row_bytes = std::max<int64_t>(1, static_cast<int64_t>(record.bytes) / num_rows);
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(kBlockBytes) / row_bytes);
  for (int64_t begin = 0; begin < num_rows; begin += step) {
    const int64_t count = std::min(step, num_rows - begin);
    give(begin, rows_of(record, begin, count));
  }
}

}  // namespace ospnext
