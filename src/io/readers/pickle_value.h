// The values that a pickle may contain.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "io/readers/tensor_file.h"

namespace ospnext {

struct PickleValue;

struct PickleList {
  std::vector<PickleValue*> items;
  bool is_tuple = false;
};

struct PickleDict {
  std::vector<std::pair<PickleValue*, PickleValue*>> items;  // in the order of their insertion
};

// A class or function that the pickle names, as "module.name".
struct PickleGlobal {
  std::string name;
};

// A storage of the archive. Without a dtype it is a storage of bytes.
struct PickleStorage {
  std::optional<DType> dtype;
  std::string type;  // "torch.FloatStorage"
  std::span<const std::byte> bytes;
};

// std::monostate represents None.
struct PickleValue {
  std::variant<std::monostate, bool, int64_t, double, std::string, PickleList, PickleDict,
               PickleGlobal, PickleStorage, TensorRecord>
      content;
};

// Maps the key of a storage to its bytes in the file. Throws InputError if the key does not exist.
using StorageLookup = std::function<std::span<const std::byte>(const std::string& key)>;

}  // namespace ospnext
