// Streams the weights of a checkpoint, decoded and under module names, by blocks of rows.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "core/torch/torch.h"
#include "io/loras.h"
#include "io/readers/key_layouts.h"
#include "io/readers/scaled_fp8.h"
#include "io/readers/tensor_file.h"

namespace ospnext {

// Decodes stored rows to float32 weights, in new memory.
using RowDecoder = std::function<at::Tensor(const at::Tensor& stored)>;

// A tensor of a checkpoint, with its name in our modules.
struct WeightSource {
  std::string name;       // in the module: "blocks.0.ffn.0.weight"
  std::string file_name;  // in the checkpoint
  TensorRecord record;
  std::optional<WeightScale> scale;  // for scaled fp8: weight = stored value · scale
  std::optional<double> hif8_scale;  // for HiF8 codes: weight = decoded value / scale
  RowDecoder decode;  // for HiF8 codes, set by hif8::decoded_sources(); streaming needs it
  std::string unknown_companion;  // a tensor of this weight that no reader knows, or ""

  // Whether the stored numbers are the weight itself.
  bool is_plain() const { return !scale && !hif8_scale; }
  // Whether the stored numbers are floating-point numbers or HiF8 codes. Integers are no weights.
  bool is_weight() const { return is_floating(record.dtype) || hif8_scale.has_value(); }
};

// Module name -> tensor and its scale, for all tensors that `rename` does not ignore. Throws
// InputError when two tensors have the same module name, and as fp8_scales and hif8_scales do.
std::map<std::string, WeightSource> weight_sources(const Checkpoint& checkpoint,
                                                   const KeyMap& rename);

// Receives rows first_row, first_row + 1, ... of a tensor. A scalar comes as a whole.
using RowSink = std::function<void(int64_t first_row, const at::Tensor& rows)>;

// Throws InputError, naming `path`, unless
// - there is a source for every name in `expected`, with the expected shape,
// - each of them has a floating dtype or HiF8 codes (those in `integers`: any known dtype),
// - none of them has an unknown companion tensor,
// - and no layer has an adapter, such as a LoRA, that is not merged.
void check_complete(const std::map<std::string, WeightSource>& sources,
                    const TensorShapes& expected, const std::string& path,
                    const std::set<std::string>& integers = {});

// Whether no value is NaN or infinite. Accepts any dtype and device.
bool all_finite(const at::Tensor& tensor);

// Rows first, first + 1, ..., first + count - 1 of a tensor. A scalar has one row.
struct RowRange {
  int64_t first, count;
};
RowRange all_rows(at::IntArrayRef shape);

// Passes the rows to `sink` in order, on `device`, in blocks of about 64 MiB of the file. Their
// dtype is the file's, or float32 if they are decoded, a scale is applied or `loras` change the
// tensor. Reads nothing else of the file. One block is in memory at a time, besides the mapped
// pages, which are released. Throws InputError for NaN or infinite values in a scale or a LoRA.
void stream_weight(const WeightSource& source, const RowRange& rows, const Checkpoint& checkpoint,
                   const Loras& loras, at::Device device, const RowSink& sink);
// The same for all rows.
void stream_weight(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, const RowSink& sink);

}  // namespace ospnext
