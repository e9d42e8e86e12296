// Checks the header of the safetensors format.
#include "io/readers/safetensors_reader.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "io/readers/bounded_json.h"

namespace ospnext {
namespace {

constexpr size_t kLengthBytes = 8;
// The format's own library allows 100 MB, which may take gigabytes after parsing. A 14B model has
// 0.15 MB.
constexpr uint64_t kMaxHeaderBytes = 16 << 20;

uint64_t little_endian_u64(const std::byte* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) {
    value = value << 8 | std::to_integer<uint64_t>(bytes[i]);
  }
  return value;
}

// `json` as a list of whole numbers that fit in int64, or nothing.
std::optional<std::vector<int64_t>> sizes(const nlohmann::json& json) {
  if (!json.is_array()) {
    return std::nullopt;
  }
  std::vector<int64_t> values;
  for (const nlohmann::json& entry : json) {
    if (!entry.is_number_unsigned() || entry.get<uint64_t>() > INT64_MAX) {
      return std::nullopt;
    }
    values.push_back(entry.get<int64_t>());
  }
  return values;
}

// Reads one entry of the header. `payload`: the data after the header.
TensorRecord read_entry(const nlohmann::json& entry, std::span<const std::byte> payload,
                        const std::string& origin) {
  if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets") || !entry["dtype"].is_string()) {
    throw InputError(origin + " needs dtype, shape and data_offsets");
  }
  const auto type_name = entry["dtype"].get<std::string>();
  const auto shape = sizes(entry["shape"]);
  const auto offsets = sizes(entry["data_offsets"]);
  if (!shape || !offsets || offsets->size() != 2) {
    throw InputError(origin + ": shape and data_offsets must be lists of whole numbers");
  }
  if (shape->size() > kMaxDimensions) {
    throw InputError(origin + " has " + std::to_string(shape->size()) +
                     " dimensions, expected at most " + std::to_string(kMaxDimensions));
  }
  const auto begin = static_cast<uint64_t>((*offsets)[0]);
  const auto end = static_cast<uint64_t>((*offsets)[1]);
  if (begin > end || end > payload.size()) {
    throw InputError(origin + " lies at bytes " + std::to_string(begin) + " to " +
                     std::to_string(end) + " of " + std::to_string(payload.size()) +
                     ": the file is damaged or cut off");
  }
  const auto dtype = dtype_from_name(type_name);
  if (!dtype) {
    if (auto other = record_of_other(type_name, *shape, end - begin)) {
      return *other;
    }
  }
  const auto expected = dtype ? byte_count(*shape, item_size(*dtype)) : std::nullopt;
  if (!expected || static_cast<uint64_t>(*expected) != end - begin) {
    throw InputError(origin + " of shape " + shape_text(*shape) + " and dtype " +
                     quoted(type_name) + " does not fit its " + std::to_string(end - begin) +
                     " bytes");
  }
  TensorRecord record;
  record.dtype = *dtype;
  record.shape = *shape;
  record.strides = contiguous_strides(*shape);
  record.data = payload.data() + begin;
  record.bytes = end - begin;
  return record;
}

void check_no_overlap(const TensorMap& tensors, const std::string& path) {
  std::vector<const TensorMap::value_type*> by_place;
  for (const auto& entry : tensors) {
    if (entry.second.bytes > 0) {
      by_place.push_back(&entry);
    }
  }
  std::sort(by_place.begin(), by_place.end(),
            [](const auto* a, const auto* b) { return a->second.data < b->second.data; });
  for (size_t i = 1; i < by_place.size(); ++i) {
    const TensorRecord& before = by_place[i - 1]->second;
    if (before.data + before.bytes > by_place[i]->second.data) {
      throw InputError(path + ": the tensors " + quoted(by_place[i - 1]->first) + " and " +
                       quoted(by_place[i]->first) + " overlap");
    }
  }
}

}  // namespace

bool looks_like_safetensors(std::span<const std::byte> bytes) {
  return bytes.size() > kLengthBytes && bytes[kLengthBytes] == std::byte{'{'} &&
         little_endian_u64(bytes.data()) <= kMaxHeaderBytes;
}

SafetensorsContent read_safetensors(const MappedFile& file) {
  const auto bytes = file.bytes();
  const std::string& path = file.path();
  if (bytes.size() < kLengthBytes) {
    throw InputError(path + ": expected a safetensors file, found only " +
                     std::to_string(bytes.size()) + " bytes");
  }
  const uint64_t header_size = little_endian_u64(bytes.data());
  if (header_size > kMaxHeaderBytes || header_size > bytes.size() - kLengthBytes) {
    throw InputError(path + ": the header claims " + std::to_string(header_size) +
                     " bytes (at most " + std::to_string(kMaxHeaderBytes) +
                     " are read), the file has " + std::to_string(bytes.size()) +
                     ": it is cut off or no safetensors file");
  }
  const auto payload = bytes.subspan(kLengthBytes + header_size);
  const nlohmann::json header = parse_bounded_json(
      {reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, header_size}, path, 4);
  if (!header.is_object()) {
    throw InputError(path + ": expected a JSON object as safetensors header");
  }
  SafetensorsContent content;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      content.tensors[name] = read_entry(entry, payload, path + ": tensor " + quoted(name));
      continue;
    }
    if (!entry.is_object()) {
      throw InputError(path + ": expected a JSON object as metadata");
    }
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) {
        throw InputError(path + ": the metadata " + quoted(key) + " is no text");
      }
      content.metadata[key] = value.get<std::string>();
    }
  }
  check_no_overlap(content.tensors, path);
  return content;
}

}  // namespace ospnext
