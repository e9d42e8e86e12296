// Tensors between files and modules.
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

at::ScalarType scalar_type(DType dtype);
// The file's data type for a tensor type; InputError naming `what` when safetensors has none for it.
DType file_dtype(at::ScalarType type, const std::string& what);

// View of the mapping, without a copy: read-only, and valid while the checkpoint of `record` lives.
// Data that is not aligned for its type is copied. Throws InputError for a dtype that is not read.
at::Tensor to_tensor(const TensorRecord& record);

struct LoadReport {
  std::vector<std::string> ignored;  // tensors of the file that belong to nothing, for a warning
};

// Fills every parameter and buffer of `module` with the checkpoint tensors named by `rename`, one
// after the other, converted to the dtype and device of the parameter, so that beside mapped pages
// little host memory is used. LoRAs are added in float32 before the one rounding. Throws InputError that
// names file and tensors as check_complete() does or when a LoRA does not fit (before anything is
// written), and when values are NaN or infinite after the conversion.
LoadReport load_weights(torch::nn::Module& module, const Checkpoint& checkpoint,
                        const KeyMap& rename = {}, const Loras& loras = {});

// A change to rows of the parameter `name` on their way into it; gives them back as they are if it has none.
using RowChange = std::function<at::Tensor(const std::string& name, const at::Tensor& rows)>;

// Where a weight goes, or some rows of it.
struct WeightTarget {
  std::vector<int64_t> shape;  // of the whole weight
  at::Device device;           // that the rows are wanted on
  RowRange rows;               // that are wanted
  std::function<at::Tensor(int64_t first_row, const at::Tensor& rows)> write;  // -> what it wrote
  bool holds_integers = false;  // a buffer of whole numbers, which a weight is not
};
using WeightTargets = std::map<std::string, WeightTarget>;  // by name

// All parameters and buffers, whole.
WeightTargets weight_targets(torch::nn::Module& module);

// The same for any targets, from sources that were found already; `change`, where given, comes after the LoRAs.
LoadReport load_weights(const WeightTargets& targets, const Checkpoint& checkpoint,
                        const std::map<std::string, WeightSource>& sources, const Loras& loras,
                        const RowChange& change);

// All tensors of a file, copied (stage inputs, small files). Those of a dtype that is not read are left out
// with a warning. Throws InputError.
std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& file);

// The two below write tensors that are in memory, as write_safetensors and write_sharded_safetensors
// (safetensors_writer.h) do: atomically, with the same errors.
void save_safetensors(const std::filesystem::path& file,
                      const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

void save_sharded_safetensors(const std::filesystem::path& directory, const std::string& stem,
                              const std::map<std::string, at::Tensor>& tensors,
                              int64_t max_shard_bytes);

}  // namespace ospnext
