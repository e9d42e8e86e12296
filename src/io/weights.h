// Loads tensors from files into modules, and saves tensors to files.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/loras.h"
#include "io/readers/key_layouts.h"
#include "io/readers/tensor_file.h"
#include "io/weight_stream.h"

namespace ospnext {

// The tensor type of a file's dtype, which is not kOther.
at::ScalarType scalar_type(DType dtype);
// The file's dtype for a tensor type. Throws InputError, naming `what`, if safetensors has none.
DType file_dtype(at::ScalarType type, const std::string& what);

// The tensor as a view of the mapped file, without a copy. The view is read-only and valid as long
// as the checkpoint of `record` exists. Data that is not aligned for its type is copied. Throws
// InputError for a dtype that is not supported.
at::Tensor to_tensor(const TensorRecord& record);

struct LoadReport {
  std::vector<std::string> ignored;  // file names of tensors without a target, for a warning
};

// Fills every parameter and buffer of `module` with the checkpoint tensor that `rename` maps to its
// name. Tensors are loaded one by one, so that little host memory is used besides mapped pages, and
// converted to the dtype and device of the parameter. LoRAs are added in float32; the sum is
// rounded once. Throws InputError that names file and tensors: before anything is written, as
// check_complete() does and when a LoRA does not fit; later, when values are NaN or infinite after
// the conversion.
LoadReport load_weights(torch::nn::Module& module, const Checkpoint& checkpoint,
                        const KeyMap& rename = {}, const Loras& loras = {});

// Changes rows of the parameter `name` before they are written to it. Returns the new rows, or
// `rows` itself if there is nothing to change.
using RowChange = std::function<at::Tensor(const std::string& name, const at::Tensor& rows)>;

// The destination of a weight, or of some of its rows.
struct WeightTarget {
  std::vector<int64_t> shape;  // of the whole weight
  at::Device device;           // where write() expects the rows
  RowRange rows;               // the rows that write() expects
  // Stores rows first_row, first_row + 1, ...; returns them as stored, in the target's dtype.
  std::function<at::Tensor(int64_t first_row, const at::Tensor& rows)> write;
  bool holds_integers = false;  // a buffer of integers, which is no weight
};
using WeightTargets = std::map<std::string, WeightTarget>;  // by name

// All parameters and buffers of `module`, each with all its rows.
WeightTargets weight_targets(torch::nn::Module& module);

// The same for any targets and for given sources. `change`, if given, is applied after the LoRAs.
LoadReport load_weights(const WeightTargets& targets, const Checkpoint& checkpoint,
                        const std::map<std::string, WeightSource>& sources, const Loras& loras,
                        const RowChange& change);

// Copies of all tensors of a file, for small files such as inputs of a stage. Leaves out tensors
// of unsupported dtypes, with a warning. Throws InputError.
std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& file);

// The two functions below write tensors from memory, as write_safetensors and
// write_sharded_safetensors (safetensors_writer.h) do: atomically, with the same errors.
void save_safetensors(const std::filesystem::path& file,
                      const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

void save_sharded_safetensors(const std::filesystem::path& directory, const std::string& stem,
                              const std::map<std::string, at::Tensor>& tensors,
                              int64_t max_shard_bytes);

}  // namespace ospnext
