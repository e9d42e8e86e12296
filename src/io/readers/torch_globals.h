// The few classes and functions of PyTorch that a pickle may name, and what calling them builds.
#pragma once

#include "io/readers/pickle_value.h"

namespace ospnext {

// Whether `name` ("torch._utils._rebuild_tensor_v2") is on the short list.
bool is_torch_global(const std::string& name);

// What calling a listed global with `arguments` gives: a tensor, an empty dictionary, or a size.
// Sizes, strides and offsets are checked against the storage. Throws InputError.
// Source: pytorch torch/_utils.py:_rebuild_tensor_v2, _rebuild_tensor_v3, _rebuild_parameter.
PickleValue call_torch_global(const std::string& name, const std::vector<PickleValue*>& arguments,
                              const std::string& origin);

// ('storage', type, key, location, number of elements) -> the storage's bytes. Throws InputError.
// Source: pytorch torch/serialization.py:_save persistent_id.
PickleStorage storage_of_persistent_id(const PickleValue& id, const StorageLookup& storages,
                                       const std::string& origin);

}  // namespace ospnext
