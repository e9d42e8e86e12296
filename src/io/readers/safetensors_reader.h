// Reader of the safetensors format.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

struct SafetensorsContent {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  // of "__metadata__"
};

// Whether the bytes begin as a safetensors file does: a plausible header length, then '{'.
bool looks_like_safetensors(std::span<const std::byte> bytes);

// Reads header and tensor places of a mapped file: 8 bytes little-endian header length, JSON header,
// data. Every length, offset and shape is checked; tensors must not overlap. A tensor of an unknown
// dtype is DType::kOther. Throws InputError.
// Source: huggingface/safetensors README.md, "Format".
SafetensorsContent read_safetensors(const MappedFile& file);

}  // namespace ospnext
