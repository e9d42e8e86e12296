// What a pickle may hold once it is read.
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
  std::vector<std::pair<PickleValue*, PickleValue*>> items;  // in the order they were set
};

// A class or function the pickle refers to, as "module.name".
struct PickleGlobal {
  std::string name;
};

// A storage of the archive; without a dtype it counts bytes.
struct PickleStorage {
  std::optional<DType> dtype;
  std::string type;  // "torch.FloatStorage"
  std::span<const std::byte> bytes;
};

// std::monostate stands for None.
struct PickleValue {
  std::variant<std::monostate, bool, int64_t, double, std::string, PickleList, PickleDict,
               PickleGlobal, PickleStorage, TensorRecord>
      content;
};

// Key of a storage -> its bytes in the file. Throws InputError for a key that is not there.
using StorageLookup = std::function<std::span<const std::byte>(const std::string& key)>;

}  // namespace ospnext
