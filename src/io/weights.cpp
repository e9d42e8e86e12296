// Loads weights: renames, checks, and copies them block by block.
#include "io/weights.h"

#include <array>
#include <cstring>
#include <set>

#include "core/error.h"
#include "core/log.h"
#include "io/weight_stream.h"

namespace ospnext {
namespace {

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
  if (record.dtype == DType::kOther) {
    throw InputError("found a tensor of the dtype " + record.other +
                     ", expected one that is read, such as F32 or BF16");
  }
  const auto options = at::TensorOptions().dtype(scalar_type(record.dtype));
  if (record.element_count() == 0) {
    return at::empty(record.shape, options);
  }
  const size_t item = item_size(record.dtype);
  if (reinterpret_cast<uintptr_t>(record.data) % item == 0) {
    auto* data = const_cast<std::byte*>(record.data);  // from_blob takes no const pointer
    return at::from_blob(data, record.shape, record.strides, options);
  }
  at::Tensor flat = at::empty({static_cast<int64_t>(record.bytes / item)}, options);
  std::memcpy(flat.data_ptr(), record.data, record.bytes);
  return flat.as_strided(record.shape, record.strides);
}

WeightTargets weight_targets(torch::nn::Module& module) {
  WeightTargets targets;
  const auto add = [&](const std::string& name, const at::Tensor& whole) {
    const auto write = [whole](int64_t first_row, const at::Tensor& rows) {
      const at::Tensor into = rows.dim() == 0 ? whole : whole.narrow(0, first_row, rows.size(0));
      into.copy_(rows);
      return into;
    };
    targets.insert_or_assign(
        name, WeightTarget{whole.sizes().vec(), whole.device(), all_rows(whole.sizes()), write,
                           !whole.is_floating_point()});
  };
  for (const auto& item : module.named_parameters()) {
    add(item.key(), item.value());
  }
  for (const auto& item : module.named_buffers()) {
    add(item.key(), item.value());
  }
  return targets;
}

LoadReport load_weights(torch::nn::Module& module, const Checkpoint& checkpoint,
                        const KeyMap& rename, const Loras& loras) {
  return load_weights(weight_targets(module), checkpoint, weight_sources(checkpoint, rename), loras,
                      {});
}

LoadReport load_weights(const WeightTargets& targets, const Checkpoint& checkpoint,
                        const std::map<std::string, WeightSource>& sources, const Loras& loras,
                        const RowChange& change) {
  const torch::NoGradGuard no_grad;
  LoadReport report;
  for (const auto& [name, source] : sources) {
    if (!targets.contains(name)) {
      report.ignored.push_back(source.file_name);
    }
  }
  TensorShapes shapes;
  std::set<std::string> integers;
  for (const auto& [name, target] : targets) {
    shapes[name] = target.shape;
    if (target.holds_integers) {
      integers.insert(name);
    }
  }
  check_complete(sources, shapes, checkpoint.path(), integers);
  loras.check_fits(shapes);
  for (const auto& [name, target] : targets) {
    const WeightSource& source = sources.at(name);
    stream_weight(
        source, target.rows, checkpoint, loras, target.device,
        [&, &to = target](int64_t first_row, const at::Tensor& rows) {
          const at::Tensor written = to.write(first_row, change ? change(source.name, rows) : rows);
          if (!all_finite(written)) {
            throw InputError(checkpoint.path() + ": tensor " + quoted(source.file_name) +
                             " holds NaN or infinite values (as " +
                             c10::toString(written.scalar_type()) + "), expected finite numbers");
          }
        });
  }
  return report;
}

std::map<std::string, at::Tensor> read_tensors(const std::filesystem::path& file) {
  const Checkpoint checkpoint = open_checkpoint(file);
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, record] : checkpoint.tensors()) {
    if (record.dtype == DType::kOther) {
      warn(checkpoint.path() + ": tensor " + quoted(name) + " is left out: its dtype " +
           record.other + " is not read");
      continue;
    }
    tensors[name] = to_tensor(record).clone(at::MemoryFormat::Contiguous);
  }
  return tensors;
}

}  // namespace ospnext
