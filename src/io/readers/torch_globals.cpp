// Builds tensors from the arguments in a pickle of torch.save.
#include "io/readers/torch_globals.h"

#include <map>

#include "core/error.h"

namespace ospnext {
namespace {

using Arguments = std::vector<PickleValue*>;

// Storage classes and their dtypes. A storage of bytes has none; there the tensor gives the dtype.
const std::map<std::string, std::optional<DType>>& storage_types() {
  static const std::map<std::string, std::optional<DType>> types{
      {"torch.DoubleStorage", DType::kF64},
      {"torch.FloatStorage", DType::kF32},
      {"torch.HalfStorage", DType::kF16},
      {"torch.BFloat16Storage", DType::kBF16},
      {"torch.LongStorage", DType::kI64},
      {"torch.IntStorage", DType::kI32},
      {"torch.ShortStorage", DType::kI16},
      {"torch.CharStorage", DType::kI8},
      {"torch.ByteStorage", DType::kU8},
      {"torch.BoolStorage", DType::kBool},
      {"torch.UntypedStorage", std::nullopt},
      {"torch.storage.UntypedStorage", std::nullopt},
      {"torch.ComplexFloatStorage", DType::kOther},
      {"torch.ComplexDoubleStorage", DType::kOther},
  };
  return types;
}

const std::map<std::string, DType>& dtypes() {
  static const std::map<std::string, DType> types{
      {"torch.float64", DType::kF64},
      {"torch.float32", DType::kF32},
      {"torch.float16", DType::kF16},
      {"torch.bfloat16", DType::kBF16},
      {"torch.float8_e4m3fn", DType::kF8E4M3},
      {"torch.float8_e5m2", DType::kF8E5M2},
      {"torch.int64", DType::kI64},
      {"torch.int32", DType::kI32},
      {"torch.int16", DType::kI16},
      {"torch.int8", DType::kI8},
      {"torch.uint64", DType::kU64},
      {"torch.uint32", DType::kU32},
      {"torch.uint16", DType::kU16},
      {"torch.uint8", DType::kU8},
      {"torch.bool", DType::kBool},
      {"torch.complex32", DType::kOther},
      {"torch.complex64", DType::kOther},
      {"torch.complex128", DType::kOther},
      {"torch.float8_e4m3fnuz", DType::kOther},
      {"torch.float8_e5m2fnuz", DType::kOther},
      {"torch.float8_e8m0fnu", DType::kOther},
      {"torch.float4_e2m1fn_x2", DType::kOther},
      {"torch.uint1", DType::kOther},
      {"torch.uint2", DType::kOther},
      {"torch.uint3", DType::kOther},
      {"torch.uint4", DType::kOther},
      {"torch.uint5", DType::kOther},
      {"torch.uint6", DType::kOther},
      {"torch.uint7", DType::kOther},
      {"torch.int1", DType::kOther},
      {"torch.int2", DType::kOther},
      {"torch.int3", DType::kOther},
      {"torch.int4", DType::kOther},
      {"torch.int5", DType::kOther},
      {"torch.int6", DType::kOther},
      {"torch.int7", DType::kOther},
  };
  return types;
}

constexpr const char* kRebuildTensor = "torch._utils._rebuild_tensor_v2";
constexpr const char* kRebuildTypedTensor = "torch._utils._rebuild_tensor_v3";
constexpr const char* kRebuildParameter = "torch._utils._rebuild_parameter";
constexpr const char* kOrderedDict = "collections.OrderedDict";
constexpr const char* kSize = "torch.Size";

// A tuple or list of integers; otherwise nothing.
std::optional<std::vector<int64_t>> integers(const PickleValue& value) {
  const auto* list = std::get_if<PickleList>(&value.content);
  if (list == nullptr) {
    return std::nullopt;
  }
  std::vector<int64_t> numbers;
  for (const PickleValue* item : list->items) {
    const auto* number = std::get_if<int64_t>(&item->content);
    if (number == nullptr) {
      return std::nullopt;
    }
    numbers.push_back(*number);
  }
  return numbers;
}

// Bytes from a tensor's first element to the end of its last element; nothing on overflow.
std::optional<int64_t> extent(const std::vector<int64_t>& shape,
                              const std::vector<int64_t>& strides, int64_t item) {
  int64_t last = 0;
  for (size_t i = 0; i < shape.size(); ++i) {
    int64_t step = 0;
    if (strides[i] < 0 || __builtin_mul_overflow(shape[i] - 1, strides[i], &step) ||
        __builtin_add_overflow(last, step, &last)) {
      return std::nullopt;
    }
  }
  int64_t bytes = 0;
  if (__builtin_add_overflow(last, 1, &last) || __builtin_mul_overflow(last, item, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

// `arguments`: storage, offset, size, stride, and others that are ignored. `type` gives the dtype
// if the storage has none.
TensorRecord rebuild_tensor(const Arguments& arguments, const std::string& type,
                            const std::string& origin) {
  const auto refuse = [&](const std::string& what) -> InputError {
    return InputError(origin + ": a tensor " + what + ": the file is damaged");
  };
  if (arguments.size() < 4) {
    throw refuse("lacks its size or stride");
  }
  const auto* storage = std::get_if<PickleStorage>(&arguments[0]->content);
  const auto* offset = std::get_if<int64_t>(&arguments[1]->content);
  const auto shape = integers(*arguments[2]);
  const auto strides = integers(*arguments[3]);
  if (storage == nullptr || offset == nullptr || !shape || !strides ||
      shape->size() != strides->size()) {
    throw refuse("has no valid storage, size or stride");
  }
  if (shape->size() > kMaxDimensions) {
    throw refuse("has " + std::to_string(shape->size()) + " dimensions");
  }
  const auto dtype = type.empty() ? storage->dtype : std::optional(dtypes().at(type));
  if (!dtype) {
    throw refuse("has no known type");
  }
  if (*dtype == DType::kOther) {
    const auto other =
        record_of_other(type.empty() ? storage->type : type, *shape, storage->bytes.size());
    if (!other) {
      throw refuse("has the impossible shape " + shape_text(*shape));
    }
    return *other;
  }
  TensorRecord record{*dtype, *shape, *strides, storage->bytes.data(), 0, {}};
  const auto item = static_cast<int64_t>(item_size(*dtype));
  const auto total = byte_count(*shape, item_size(*dtype));
  const auto available = static_cast<int64_t>(storage->bytes.size());
  if (!total) {
    throw refuse("has the impossible shape " + shape_text(*shape));
  }
  if (*total == 0) {
    record.strides = contiguous_strides(*shape);
    return record;
  }
  const auto bytes = extent(*shape, *strides, item);
  if (!bytes || *offset < 0 || *offset > available / item || *bytes > available - *offset * item) {
    throw refuse("of shape " + shape_text(*shape) + " reaches outside its storage of " +
                 std::to_string(available) + " bytes");
  }
  if (*total > available) {
    throw InputError(origin + ": a tensor of shape " + shape_text(*shape) +
                     " repeats the elements of its storage, expected a tensor with its own "
                     "elements: save it after .contiguous()");
  }
  record.data += *offset * item;
  record.bytes = static_cast<size_t>(*bytes);
  return record;
}

}  // namespace

bool is_torch_global(const std::string& name) {
  return name == kRebuildTensor || name == kRebuildTypedTensor || name == kRebuildParameter ||
         name == kOrderedDict || name == kSize || storage_types().contains(name) ||
         dtypes().contains(name);
}

PickleValue call_torch_global(const std::string& name, const Arguments& arguments,
                              const std::string& origin) {
  if (name == kRebuildTensor) {
    return {rebuild_tensor(arguments, "", origin)};
  }
  if (name == kRebuildTypedTensor && arguments.size() >= 7) {
    const auto* type = std::get_if<PickleGlobal>(&arguments[6]->content);
    if (type != nullptr && dtypes().contains(type->name)) {
      return {rebuild_tensor(arguments, type->name, origin)};
    }
  }
  if (name == kRebuildParameter && !arguments.empty()) {
    if (const auto* tensor = std::get_if<TensorRecord>(&arguments[0]->content)) {
      return {*tensor};
    }
  }
  if (name == kOrderedDict && arguments.empty()) {
    return {PickleDict{}};
  }
  if (name == kSize && arguments.size() == 1) {
    const auto* sides = std::get_if<PickleList>(&arguments[0]->content);
    if (sides != nullptr && sides->items.size() <= kMaxDimensions) {
      return {PickleList{sides->items, true}};
    }
  }
  throw InputError(origin + ": expected only tensors and containers, found a call of " + name +
                   " with unexpected arguments");
}

PickleStorage storage_of_persistent_id(const PickleValue& id, const StorageLookup& storages,
                                       const std::string& origin) {
  const auto refuse = [&](const std::string& what) {
    return InputError(origin + ": a reference to a storage " + what + ": the file is damaged");
  };
  const auto* parts = std::get_if<PickleList>(&id.content);
  if (parts == nullptr || parts->items.size() != 5) {
    throw refuse("has not five parts");
  }
  const auto* kind = std::get_if<std::string>(&parts->items[0]->content);
  const auto* type = std::get_if<PickleGlobal>(&parts->items[1]->content);
  const auto* key = std::get_if<std::string>(&parts->items[2]->content);
  const auto* count = std::get_if<int64_t>(&parts->items[4]->content);
  if (kind == nullptr || *kind != "storage" || type == nullptr || key == nullptr ||
      count == nullptr || !storage_types().contains(type->name)) {
    throw refuse("has unexpected parts");
  }
  PickleStorage storage{storage_types().at(type->name), type->name, storages(*key)};
  if (storage.dtype == DType::kOther) {
    return storage;  // the size of its elements is unknown
  }
  const auto bytes = byte_count({*count}, storage.dtype ? item_size(*storage.dtype) : 1);
  if (!bytes || static_cast<uint64_t>(*bytes) > storage.bytes.size()) {
    throw refuse("claims " + std::to_string(*count) + " elements, its entry has " +
                 std::to_string(storage.bytes.size()) + " bytes");
  }
  storage.bytes = storage.bytes.first(static_cast<size_t>(*bytes));
  return storage;
}

}  // namespace ospnext
