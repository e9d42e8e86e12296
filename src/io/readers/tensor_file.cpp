// Dtypes, sizes, and the checkpoint, which owns its mapped files.
#include "io/readers/tensor_file.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstring>
#include <utility>

namespace ospnext {
namespace {

struct DTypeEntry {
  DType dtype;
  const char* name;
  size_t size;
};

constexpr std::array kDTypes{
    DTypeEntry{DType::kF64, "F64", 8},        DTypeEntry{DType::kF32, "F32", 4},
    DTypeEntry{DType::kF16, "F16", 2},        DTypeEntry{DType::kBF16, "BF16", 2},
    DTypeEntry{DType::kF8E4M3, "F8_E4M3", 1}, DTypeEntry{DType::kF8E5M2, "F8_E5M2", 1},
    DTypeEntry{DType::kI64, "I64", 8},        DTypeEntry{DType::kI32, "I32", 4},
    DTypeEntry{DType::kI16, "I16", 2},        DTypeEntry{DType::kI8, "I8", 1},
    DTypeEntry{DType::kU64, "U64", 8},        DTypeEntry{DType::kU32, "U32", 4},
    DTypeEntry{DType::kU16, "U16", 2},        DTypeEntry{DType::kU8, "U8", 1},
    DTypeEntry{DType::kBool, "BOOL", 1},      DTypeEntry{DType::kOther, "", 0},
};

constexpr size_t kNamesShown = 5;

// The first bytes of `record` as a number of this type. They need not be aligned.
template <class Number>
double number_at(const TensorRecord& record) {
  Number number{};
  std::memcpy(&number, record.data, sizeof(number));
  return static_cast<double>(number);
}

double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 0x1f;
  const int mantissa = bits & 0x3ff;
  const double magnitude = exponent == 0      ? std::ldexp(mantissa, -24)
                           : exponent == 0x1f ? (mantissa == 0 ? INFINITY : NAN)
                                              : std::ldexp(0x400 + mantissa, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

double bfloat16_value(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float number = 0;
  std::memcpy(&number, &wide, sizeof(number));
  return number;
}

}  // namespace

size_t item_size(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].size;
}

const char* dtype_name(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].name;
}

std::optional<DType> dtype_from_name(const std::string& name) {
  for (const DTypeEntry& entry : kDTypes) {
    if (name == entry.name && entry.dtype != DType::kOther) {
      return entry.dtype;
    }
  }
  return std::nullopt;
}

int64_t TensorRecord::element_count() const {
  int64_t count = 1;
  for (const int64_t side : shape) {
    count *= side;
  }
  return count;
}

bool TensorRecord::is_contiguous() const {
  const auto expected = contiguous_strides(shape);
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] > 1 && strides[i] != expected[i]) {
      return element_count() == 0;
    }
  }
  return true;
}

std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& shape) {
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i > 1; --i) {
    // If one side is 0, the product of the others may overflow. It wraps around: the strides of an
    // empty tensor are never used.
    strides[i - 2] = static_cast<int64_t>(static_cast<uint64_t>(strides[i - 1]) *
                                          static_cast<uint64_t>(shape[i - 1]));
  }
  return strides;
}

std::optional<int64_t> byte_count(const std::vector<int64_t>& shape, size_t item_size) {
  auto count = static_cast<int64_t>(item_size);
  for (const int64_t side : shape) {
    if (side < 0 || __builtin_mul_overflow(count, side, &count)) {
      return std::nullopt;
    }
  }
  return count;
}

std::optional<TensorRecord> record_of_other(const std::string& dtype,
                                            const std::vector<int64_t>& shape, size_t available) {
  constexpr size_t kLongestName = 32;
  const bool is_word = dtype.size() <= kLongestName &&
                       std::all_of(dtype.begin(), dtype.end(), [](unsigned char letter) {
                         return std::isalnum(letter) != 0 || letter == '_' || letter == '.';
                       });
  const auto count = byte_count(shape, 1);
  if (!is_word || dtype.empty() || !count || static_cast<uint64_t>(*count) / 8 > available) {
    return std::nullopt;
  }
  return TensorRecord{DType::kOther, shape, contiguous_strides(shape), nullptr, 0, dtype};
}

std::string dtype_text(const TensorRecord& record) {
  return record.dtype == DType::kOther ? record.other : dtype_name(record.dtype);
}

bool is_fp8(DType dtype) {
  return dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2;
}

bool is_floating(DType dtype) {
  return dtype == DType::kF64 || dtype == DType::kF32 || dtype == DType::kF16 ||
         dtype == DType::kBF16 || is_fp8(dtype);
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

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

std::optional<double> scalar_value(const TensorRecord& record) {
  if (record.element_count() != 1) {
    return std::nullopt;
  }
  switch (record.dtype) {
    case DType::kF64:
      return number_at<double>(record);
    case DType::kF32:
      return number_at<float>(record);
    case DType::kF16:
      return half_value(static_cast<uint16_t>(number_at<uint16_t>(record)));
    case DType::kBF16:
      return bfloat16_value(static_cast<uint16_t>(number_at<uint16_t>(record)));
    case DType::kI64:
      return number_at<int64_t>(record);
    case DType::kI32:
      return number_at<int32_t>(record);
    case DType::kI16:
      return number_at<int16_t>(record);
    case DType::kI8:
      return number_at<int8_t>(record);
    case DType::kU64:
      return number_at<uint64_t>(record);
    case DType::kU32:
      return number_at<uint32_t>(record);
    case DType::kU16:
      return number_at<uint16_t>(record);
    case DType::kU8:
    case DType::kBool:
      return number_at<uint8_t>(record);
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kOther:
      break;
  }
  return std::nullopt;
}

std::string quoted(const std::string& name) {
  constexpr size_t kMaxLength = 120;
  std::string text = name.substr(0, kMaxLength);
  for (char& character : text) {
    if (static_cast<unsigned char>(character) < 0x20 || character == 0x7f) {
      character = '?';
    }
  }
  return "\"" + text + (name.size() > kMaxLength ? "...\"" : "\"");
}

Checkpoint::Checkpoint(std::string path, std::vector<std::unique_ptr<MappedFile>> files,
                       TensorMap tensors, std::map<std::string, std::string> metadata,
                       std::vector<std::string> unlisted)
    : path_(std::move(path)),
      files_(std::move(files)),
      tensors_(std::move(tensors)),
      metadata_(std::move(metadata)),
      unlisted_(std::move(unlisted)) {}

void Checkpoint::keep(const std::function<bool(const std::string& name)>& wanted) {
  std::erase_if(tensors_, [&](const auto& entry) { return !wanted(entry.first); });
  std::erase_if(unlisted_, [&](const std::string& name) { return !wanted(name); });
}

void Checkpoint::fetch_pages(const TensorRecord& record) const noexcept {
  for (const auto& file : files_) {
    if (file->contains(record.data)) {
      file->fetch_pages(record.data, record.bytes);
    }
  }
}

void Checkpoint::drop_pages(const TensorRecord& record) const noexcept {
  for (const auto& file : files_) {
    if (file->contains(record.data)) {
      file->drop_pages(record.data, record.bytes);
    }
  }
}

}  // namespace ospnext
