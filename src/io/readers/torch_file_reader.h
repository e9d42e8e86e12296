// Reader of PyTorch's zip files (.pth, .pt, .bin).
#pragma once

#include "io/readers/tensor_file.h"

namespace ospnext {

// Tensors of a file that torch.save wrote (PyTorch 1.6 and later). Containers are flattened: the
// tensor obj["model"]["a.b"] is called "model.a.b", list items are called by their index; values
// that are no tensors are left out; a complex tensor or one of fewer bits is DType::kOther. Throws
// InputError.
// Source: torch/serialization.py:_save.
TensorMap read_torch_file(const MappedFile& file);

// Whether the bytes are a file of torch.save before PyTorch 1.6, which is not read.
bool looks_like_legacy_torch_file(std::span<const std::byte> bytes);

}  // namespace ospnext
