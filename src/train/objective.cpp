#include "train/objective.h"

#include <limits>

#include "core/error.h"
#include "io/readers/bounded_json.h"

namespace ospnext {

int64_t count_of_state(const nlohmann::json& state, const std::string& name,
                       const std::string& origin) {
  const auto found = state.is_object() ? state.find(name) : state.end();
  if (found == state.end() || !found->is_number_unsigned() ||
      found->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()}) {
    throw InputError(origin + ": " + name + ": found " +
                     (found == state.end() ? "nothing" : shown(*found)) +
                     ", expected a whole number from 0 on");
  }
  return found->get<int64_t>();
}

}  // namespace ospnext
