// Tensors in files: the records that readers return, and one function that opens every known kind
// of file.
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
  kOther,  // any unsupported dtype; such a tensor has a shape, but no data
};

// A tensor with more dimensions is refused.
inline constexpr size_t kMaxDimensions = 16;

size_t item_size(DType dtype);        // bytes of one element; 0 for kOther
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
  std::string other{};  // for kOther: the name of the dtype in the file

  int64_t element_count() const;
  bool is_contiguous() const;
};

using TensorMap = std::map<std::string, TensorRecord>;
using TensorShapes = std::map<std::string, std::vector<int64_t>>;  // by name

// Row-major strides of `shape`.
std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape);

// Product of `shape` times `item_size`; nothing if a side is negative or the product overflows.
std::optional<int64_t> byte_count(const std::vector<int64_t>& shape, size_t item_size);

// A name from a file, in quotes, for messages. Control characters are replaced, and a long name is
// cut.
std::string quoted(const std::string& name);

// A record without data, of an unsupported dtype. Nothing if `dtype` is not a plain word, or if the
// tensor does not fit into `available` bytes even with one bit per element.
std::optional<TensorRecord> record_of_other(const std::string& dtype,
                                            const std::vector<int64_t>& shape, size_t available);

// "BF16"; for an unsupported dtype, its name in the file.
std::string dtype_text(const TensorRecord& record);

// Whether the dtype is a floating-point one: F64, F32, F16, BF16 or fp8.
bool is_floating(DType dtype);
bool is_fp8(DType dtype);

// "[2, 3]"
std::string shape_text(const std::vector<int64_t>& shape);

// "a, b, c and 7 more"
std::string list_text(const std::vector<std::string>& entries);

// The number in a tensor of one element; nothing for other sizes, fp8 and kOther.
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

  // Keeps the tensors for which `wanted(name)` is true, and forgets the others.
  void keep(const std::function<bool(const std::string& name)>& wanted);
  void set_metadata(const std::string& key, std::string value) {
    metadata_[key] = std::move(value);
  }

  // Prefetches a tensor from disk.
  void fetch_pages(const TensorRecord& record) const noexcept;
  // Releases the memory pages of a tensor that is not needed again soon.
  void drop_pages(const TensorRecord& record) const noexcept;

 private:
  std::string path_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  TensorMap tensors_;
  std::map<std::string, std::string> metadata_;
  std::vector<std::string> unlisted_;
};

// Opens a .safetensors file, a PyTorch zip file (.pth, .pt, .bin), an index with its shards, or a
// directory that contains one of these (find_checkpoint). The name of one shard
// ("NAME-00001-of-00003.safetensors") opens all shards of the set. The kind of file is determined
// from the content, not from the name. Throws InputError, one sentence that names the file, also
// for a missing shard.
Checkpoint open_checkpoint(const std::filesystem::path& file_or_index_or_dir);

// Whether the name ends in .safetensors, .pt, .pth or .bin.
bool is_tensor_file(const std::filesystem::path& path);

// The checkpoint in a directory: diffusion_pytorch_model or model (.safetensors or its index),
// ema_model_state_dict.pt, otherwise the only checkpoint of any name (checkpoints_in). Nothing if
// there is none. Throws InputError if there are several, and for the root of a hub's cache.
std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& directory);

}  // namespace ospnext
