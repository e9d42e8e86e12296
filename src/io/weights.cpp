// Loading of weights: renaming, checks, and the streamed copy.
#include "io/weights.h"

#include <array>
#include <cmath>
#include <cstring>

#include "core/error.h"

namespace ospnext {
namespace {

// Larger tensors are copied and checked in blocks of rows of about this size, so that no temporary
// of a conversion, transfer or check is as large as a 2 GiB embedding.
constexpr size_t kBlockBytes = size_t{64} << 20;
constexpr size_t kNamesShown = 5;

constexpr std::array kTypePairs{
    std::pair{DType::kF64, at::kDouble},
    std::pair{DType::kF32, at::kFloat},
    std::pair{DType::kF16, at::kHalf},
    std::pair{DType::kBF16, at::kBFloat16},
    std::pair{DType::kF8E4M3, at::kFloat8_e4m3fn},
    std::pair{DType::kF8E5M2, at::kFloat8_e5m2},
    std::pair{DType::kI64, at::kLong},
    std::pair{DType::kI32, at::kInt},
    std::pair{DType::kI16, at::kShort},
    std::pair{DType::kI8, at::kChar},
    std::pair{DType::kU64, at::kUInt64},
    std::pair{DType::kU32, at::kUInt32},
    std::pair{DType::kU16, at::kUInt16},
    std::pair{DType::kU8, at::kByte},
    std::pair{DType::kBool, at::kBool},
};

// "a, b, c and 7 more"
std::string list_text(const std::vector<std::string>& entries) {
  std::string text;
  for (size_t i = 0; i < std::min(entries.size(), kNamesShown); ++i) {
    text += (i == 0 ? "" : ", ") + entries[i];
  }
  if (entries.size() > kNamesShown) {
    text += " and " + std::to_string(entries.size() - kNamesShown) + " more";
  }
  return text;
}

// Rows [begin, begin + count) of a tensor with at least one dimension.
TensorRecord rows(const TensorRecord& record, int64_t begin, int64_t count) {
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

// Copies `record` into `target`, which has its shape, block by block. False when a value of `target`
// is not finite afterwards.
bool copy_streamed(const at::Tensor& target, const TensorRecord& record,
                   const Checkpoint& checkpoint) {
  if (target.numel() == 0) {
    return true;
  }
  const auto copy = [&](at::Tensor into, const TensorRecord& part) {
    checkpoint.fetch_pages(part);
    at::Tensor source = to_tensor(part);
    if (!into.device().is_cpu()) {
      source = source.to(into.device());  // transfer in the file's type, convert over there
    }
    into.copy_(source);
    checkpoint.drop_pages(part);
    return all_finite(into);
  };
  if (record.bytes <= kBlockBytes || record.shape.empty()) {
    return copy(target, record);
  }
  const int64_t num_rows = record.shape[0];
  const int64_t row_bytes = std::max<int64_t>(1, static_cast<int64_t>(record.bytes) / num_rows);
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(kBlockBytes) / row_bytes);
  for (int64_t begin = 0; begin < num_rows; begin += step) {
    const int64_t count = std::min(step, num_rows - begin);
    if (!copy(target.narrow(0, begin, count), rows(record, begin, count))) {
      return false;
    }
  }
  return true;
}

std::map<std::string, at::Tensor> parameters_and_buffers(torch::nn::Module& module) {
  std::map<std::string, at::Tensor> targets;
  for (const auto& item : module.named_parameters()) {
    targets[item.key()] = item.value();
  }
  for (const auto& item : module.named_buffers()) {
    targets[item.key()] = item.value();
  }
  return targets;
}

}  // namespace

at::ScalarType scalar_type(DType dtype) {
  for (const auto& [file_type, tensor_type] : kTypePairs) {
    if (file_type == dtype) {
      return tensor_type;
    }
  }
  TORCH_INTERNAL_ASSERT(false, "dtype without a tensor type");
}

DType file_dtype(at::ScalarType type, const std::string& what) {
  for (const auto& [file_type, tensor_type] : kTypePairs) {
    if (tensor_type == type) {
      return file_type;
    }
  }
  throw InputError(what + ": the type " + c10::toString(type) + " has no place in safetensors");
}

at::Tensor to_tensor(const TensorRecord& record) {
  const auto options = at::TensorOptions().dtype(scalar_type(record.dtype));
  if (record.element_count() == 0) {
    return at::empty(record.shape, options);
  }
  const size_t item = item_size(record.dtype);
  if (reinterpret_cast<uintptr_t>(record.data) % item == 0) {
    auto* data = const_cast<std::byte*>(record.data);  // from_blob knows no read-only memory
    return at::from_blob(data, record.shape, record.strides, options);
  }
  at::Tensor flat = at::empty({static_cast<int64_t>(record.bytes / item)}, options);
  std::memcpy(flat.data_ptr(), record.data, record.bytes);
  return flat.as_strided(record.shape, record.strides);
}

LoadReport load_weights(torch::nn::Module& module, const Checkpoint& checkpoint,
                        const KeyMap& rename) {
  const torch::NoGradGuard no_grad;
  LoadReport report;
  const auto targets = parameters_and_buffers(module);
  std::map<std::string, const TensorMap::value_type*> sources;  // by module name
  for (const auto& entry : checkpoint.tensors()) {
    const std::string name = rename ? rename(entry.first) : entry.first;
    if (name.empty()) {
      continue;
    }
    if (!targets.contains(name)) {
      report.ignored.push_back(entry.first);
      continue;
    }
    const auto [place, is_new] = sources.emplace(name, &entry);
    if (!is_new) {
      throw InputError(checkpoint.path() + ": the tensors " + quoted(place->second->first) +
                       " and " + quoted(entry.first) + " are both " + name);
    }
  }
  std::vector<std::string> missing;
  std::vector<std::string> misshapen;
  for (const auto& [name, target] : targets) {
    const auto source = sources.find(name);
    if (source == sources.end()) {
      missing.push_back(name);
      continue;
    }
    const auto& [file_name, record] = *source->second;
    if (record.shape != target.sizes().vec()) {
      misshapen.push_back(quoted(file_name) + " (found " + shape_text(record.shape) +
                          ", expected " + shape_text(target.sizes().vec()) + ")");
    }
  }
  if (!missing.empty()) {
    throw InputError(checkpoint.path() + ": " + std::to_string(missing.size()) + " of " +
                     std::to_string(targets.size()) +
                     " tensors are missing: " + list_text(missing));
  }
  if (!misshapen.empty()) {
    throw InputError(checkpoint.path() + ": " + std::to_string(misshapen.size()) + " of " +
                     std::to_string(targets.size()) +
                     " tensors have the wrong shape: " + list_text(misshapen));
  }
  for (const auto& [name, target] : targets) {
    const auto& [file_name, record] = *sources.at(name);
    if (!copy_streamed(target, record, checkpoint)) {
      throw InputError(checkpoint.path() + ": tensor " + quoted(file_name) +
                       " holds NaN or infinite values (as " + c10::toString(target.scalar_type()) +
                       "), expected finite numbers");
    }
  }
  return report;
}

std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& file) {
  const Checkpoint checkpoint = open_checkpoint(file);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, record] : checkpoint.tensors()) {
    tensors[name] = to_tensor(record).clone(at::MemoryFormat::Contiguous);
  }
  return tensors;
}

}  // namespace ospnext
