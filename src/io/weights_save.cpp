// Writes tensors in memory as safetensors files.
#include "io/safetensors_writer.h"
#include "io/weights.h"

namespace ospnext {
namespace {

TensorOutputs outputs_of(const std::map<std::string, at::Tensor>& tensors,
                         const std::filesystem::path& file) {
  TensorOutputs outputs;
  for (const auto& [name, tensor] : tensors) {
    outputs[name] = {file_dtype(tensor.scalar_type(), file.string() + ": tensor \"" + name + "\""),
                     tensor.sizes().vec(),
                     [tensor](const PieceSink& sink) { sink(tensor.detach().cpu().contiguous()); }};
  }
  return outputs;
}

}  // namespace

void save_safetensors(const std::filesystem::path& file,
                      const std::map<std::string, at::Tensor>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  write_safetensors(file, outputs_of(tensors, file), metadata);
}

void save_sharded_safetensors(const std::filesystem::path& directory, const std::string& stem,
                              const std::map<std::string, at::Tensor>& tensors,
                              int64_t max_shard_bytes) {
  write_sharded_safetensors(directory, stem, outputs_of(tensors, directory / stem),
                            max_shard_bytes);
}

}  // namespace ospnext
