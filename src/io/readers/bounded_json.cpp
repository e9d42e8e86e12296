// Bounded JSON parsing on nlohmann's iterative parser.
#include "io/readers/bounded_json.h"

#include <set>
#include <vector>

#include "core/error.h"
#include "io/readers/mapped_file.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

// Keys and values of one text; each may cost 100 bytes. An index of a 14B model has some 3,000.
constexpr size_t kMaxParts = 500'000;

}  // namespace

nlohmann::json parse_bounded_json(std::string_view text, const std::string& origin, int max_depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open, outermost first
  size_t parts = 0;
  const auto watch = [&](int depth, Event event, nlohmann::json& parsed) {
    if (++parts > kMaxParts) {
      throw InputError(origin + ": JSON holds more than " + std::to_string(kMaxParts) + " parts");
    }
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= max_depth) {
        throw InputError(origin + ": JSON nested deeper than " + std::to_string(max_depth) +
                         " levels");
      }
      if (event == Event::object_start) {
        keys.emplace_back();
      }
    } else if (event == Event::object_end) {
      keys.pop_back();
    } else if (event == Event::key && !keys.back().insert(parsed.get<std::string>()).second) {
      throw InputError(origin + ": JSON names a key twice: " + quoted(parsed.get<std::string>()));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), watch);
  } catch (const nlohmann::json::parse_error& error) {
    throw InputError(origin + ": expected JSON, found a mistake at byte " +
                     std::to_string(error.byte));
  } catch (const nlohmann::json::exception&) {
    throw InputError(origin + ": JSON holds a number that is out of range");
  }
}

nlohmann::json read_json_file(const std::filesystem::path& file, size_t max_bytes) {
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  if (bytes.size() > max_bytes) {
    throw InputError(mapped.path() + ": expected JSON of at most " + std::to_string(max_bytes) +
                     " bytes, found " + std::to_string(bytes.size()));
  }
  return parse_bounded_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                            mapped.path());
}

nlohmann::json read_json_object(const std::filesystem::path& file) {
  nlohmann::json json = read_json_file(file);
  if (!json.is_object()) {
    throw InputError(file.string() + ": expected a JSON object, found " + json.type_name());
  }
  return json;
}

std::string shown(const nlohmann::json& value) {
  constexpr size_t kMaxLength = 120;
  return value.is_string() ? quoted(value.get<std::string>()) : value.dump().substr(0, kMaxLength);
}

}  // namespace ospnext
