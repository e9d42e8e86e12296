// Reader of the safetensors format.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

struct SafetensorsContent {
  TensorMap tensors;
  std::map<std::string, std::string> metadata;  // from "__metadata__"
};

// Whether the bytes start like a safetensors file: a plausible header length, then '{'.
bool looks_like_safetensors(std::span<const std::byte> bytes);

// Reads the header and locates the tensors of a mapped file: 8 bytes little-endian header length,
// JSON header, data. Checks every length, offset and shape; tensors must not overlap. A tensor of
// an unknown dtype gets DType::kOther. Throws InputError.
// Source: huggingface/safetensors README.md, "Format".
SafetensorsContent read_safetensors(const MappedFile& file);

}  // namespace ospnext
