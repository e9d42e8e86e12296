// Tensors in files: what a reader yields, and one way to open every known kind of file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/readers/mapped_file.h"

namespace ospnext {

enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kF8E4M3,
  kF8E5M2,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kOther,  // one that is not read; such a tensor has a shape, but no data
};

// Of one tensor; more are refused.
inline constexpr size_t kMaxDimensions = 16;

size_t item_size(DType dtype);        // bytes of one element; 0 of kOther
const char* dtype_name(DType dtype);  // as safetensors writes it: "F32", "BF16", ...
std::optional<DType> dtype_from_name(const std::string& name);  // nothing for an unknown name

// One tensor inside a mapped file. Element (i, j, ...) lies at data + item_size · Σ index·stride,
// and all elements lie in [data, data + bytes). `data` need not be aligned.
struct TensorRecord {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<int64_t> strides;  // in elements, none negative
  const std::byte* data = nullptr;
  size_t bytes = 0;
  std::string other{};  // of kOther: the dtype, as the file calls it

  int64_t element_count() const;
  bool is_contiguous() const;
};

using TensorMap = std::map<std::string, TensorRecord>;
using TensorShapes = std::map<std::string, std::vector<int64_t>>;  // by name

// Row-major strides of `shape`.
std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape);

// Product of `shape` times `item_size`, or nothing when a side is negative or the product overflows.
std::optional<int64_t> byte_count(const std::vector<int64_t>& shape, size_t item_size);

// `name` from a file in quotes, fit for a message: control characters replaced, cut when long.
std::string quoted(const std::string& name);

// A record without data, of a dtype that is not read. Nothing when `dtype` is no plain word, or when a
// tensor of this shape does not fit into `available` bytes even with a bit for each element.
std::optional<TensorRecord> record_of_other(const std::string& dtype,
                                            const std::vector<int64_t>& shape, size_t available);

// "BF16", or what the file calls a dtype that is not read.
std::string dtype_text(const TensorRecord& record);

// Whether the dtype is one of fractional numbers: F64 to F8.
bool is_floating(DType dtype);
bool is_fp8(DType dtype);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

// "a, b, c and 7 more"
std::string list_text(const std::vector<std::string>& entries);

// The number in a tensor of one element; nothing for other sizes and for fp8.
std::optional<double> scalar_value(const TensorRecord& record);

// The tensors of one file, or of the shards of an index. Keeps the files mapped.
class Checkpoint {
 public:
  Checkpoint(std::string path, std::vector<std::unique_ptr<MappedFile>> files, TensorMap tensors,
             std::map<std::string, std::string> metadata, std::vector<std::string> unlisted = {});

  const TensorMap& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return path_; }  // of the file, or of the index
  // Tensors, in order, that the shards of an index hold and it does not name: they are used all the
  // same.
  const std::vector<std::string>& unlisted() const { return unlisted_; }

  // Forgets all tensors but those whose names `wanted` takes.
  void keep(const std::function<bool(const std::string& name)>& wanted);
  void set_metadata(const std::string& key, std::string value) {
    metadata_[key] = std::move(value);
  }

  // Starts reading a tensor from disk, ahead of its use.
  void fetch_pages(const TensorRecord& record) const noexcept;
  // Gives back the memory of a tensor that is not read again soon.
  void drop_pages(const TensorRecord& record) const noexcept;

 private:
  std::string path_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  TensorMap tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> unlisted_;
};

// Opens a .safetensors file, a PyTorch zip file (.pth, .pt, .bin), an index with its shards, or a
// directory that holds one of these (find_checkpoint). A file named as one of several shards
// ("NAME-00001-of-00003.safetensors") stands for all of them. The kind is read from the content,
// not from the name. Throws InputError, one sentence that names the file, also for a shard that is
// gone.
Checkpoint open_checkpoint(const std::filesystem::path& file_or_index_or_dir);

// Whether the name ends as those of tensor files do: .safetensors, .pt, .pth, .bin.
bool is_tensor_file(const std::filesystem::path& path);

// The checkpoint of a directory: diffusion_pytorch_model or model (.safetensors or its index),
// ema_model_state_dict.pt, and else the only one of any name (checkpoints_in). Nothing when there
// is none; InputError when several make it ambiguous, and for the root of a hub's cache.
std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& directory);

}  // namespace ospnext
