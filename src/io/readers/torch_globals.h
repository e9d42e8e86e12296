// The few classes and functions of PyTorch that a pickle may name, and the results of calling them.
#pragma once

#include "io/readers/pickle_value.h"

namespace ospnext {

// Whether a pickle may name `name` (for example "torch._utils._rebuild_tensor_v2").
bool is_torch_global(const std::string& name);

// The result of calling an allowed global with `arguments`: a tensor, an empty dictionary, or a
// size. Checks sizes, strides and offsets against the storage. Throws InputError.
// Source: pytorch torch/_utils.py:_rebuild_tensor_v2, _rebuild_tensor_v3, _rebuild_parameter.
PickleValue call_torch_global(const std::string& name, const std::vector<PickleValue*>& arguments,
                              const std::string& origin);

// Maps ('storage', type, key, location, number of elements) to the storage's bytes. Throws
// InputError.
// Source: pytorch torch/serialization.py:_save persistent_id.
PickleStorage storage_of_persistent_id(const PickleValue& id, const StorageLookup& storages,
                                       const std::string& origin);

}  // namespace ospnext
