// Reader of PyTorch's zip files (.pth, .pt, .bin).
#pragma once

#include "io/readers/tensor_file.h"

namespace ospnext {

// Reads the tensors of a file written by torch.save (PyTorch 1.6 and later). Containers are
// flattened: the tensor obj["model"]["a.b"] gets the name "model.a.b", and list items are named by
// their index. Values that are not tensors are left out. A complex tensor or one with sub-byte
// elements gets DType::kOther. Throws InputError.
// Source: torch/serialization.py:_save.
TensorMap read_torch_file(const MappedFile& file);

// Whether the bytes are a torch.save file from before PyTorch 1.6. This format is not supported.
bool looks_like_legacy_torch_file(std::span<const std::byte> bytes);

}  // namespace ospnext
