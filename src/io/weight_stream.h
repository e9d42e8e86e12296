// Weights of a checkpoint as a model sees them, one block of rows after the other.
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

// Makes float32 weights, in new memory, of stored rows.
using RowDecoder = std::function<at::Tensor(const at::Tensor& stored)>;

// A tensor of a checkpoint under the name it has in our modules.
struct WeightSource {
  std::string name;       // in the module: "blocks.0.ffn.0.weight"
  std::string file_name;  // in the checkpoint
  TensorRecord record;
  std::optional<WeightScale> scale;  // of scaled fp8: the weight is the stored value times this
  std::optional<double> hif8_scale;  // of HiF8 codes: the weight is their value divided by this
  RowDecoder decode;  // of HiF8 codes, set by hif8::decoded_sources(); streaming needs it
  std::string unknown_companion;  // a tensor that belongs to it and that nothing understands, or ""

  // Whether the stored numbers are the weight itself.
  bool is_plain() const { return !scale && !hif8_scale; }
  // Whether the stored numbers are fractions or their codes; whole numbers are no weights.
  bool is_weight() const { return is_floating(record.dtype) || hif8_scale.has_value(); }
};

// The tensors that `rename` does not ignore, by module name, with their scales. Throws InputError when
// two are the same, and as fp8_scales and hif8_scales do.
std::map<std::string, WeightSource> weight_sources(const Checkpoint& checkpoint,
                                                   const KeyMap& rename);

// Takes rows first_row, first_row + 1, ... of a tensor (a scalar whole).
using RowSink = std::function<void(int64_t first_row, const at::Tensor& rows)>;

// Throws InputError, naming `path`, unless there is a source of every name and shape of `expected`, and what
// is expected can be read as a weight: of a floating dtype or HiF8 codes (those in `integers` may be of any
// known dtype), with no companion that nothing understands, and without a LoRA beside it.
void check_complete(const std::map<std::string, WeightSource>& sources,
                    const TensorShapes& expected, const std::string& path,
                    const std::set<std::string>& integers = {});

// Whether no value is NaN or infinite; of any dtype and device.
bool all_finite(const at::Tensor& tensor);

// Rows first, first + 1, ... of a tensor; a scalar has one.
struct RowRange {
  int64_t first, count;
};
RowRange all_rows(at::IntArrayRef shape);

// Gives `sink` the rows in order, in blocks of about 64 MiB of the file, on `device`: in the file's
// dtype, or in float32 where they are decoded, a scale is applied or `loras` change the tensor. Beside mapped pages, which
// are given back, one block is in memory at a time. Nothing else of the file is read. Throws InputError for a LoRA of NaN.
void stream_weight(const WeightSource& source, const RowRange& rows, const Checkpoint& checkpoint,
                   const Loras& loras, at::Device device, const RowSink& sink);
// All rows.
void stream_weight(const WeightSource& source, const Checkpoint& checkpoint, const Loras& loras,
                   at::Device device, const RowSink& sink);

}  // namespace ospnext
