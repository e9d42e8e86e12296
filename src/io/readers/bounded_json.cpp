// Parses JSON within limits, with nlohmann's iterative parser.
#include "io/readers/bounded_json.h"

#include <set>
#include <vector>

#include "core/error.h"
#include "io/readers/mapped_file.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

// Limit on the keys and values of one text. Each may need 100 bytes of memory. The index of a 14B
// model has about 3,000.
constexpr size_t kMaxParts = 500'000;
// Lower limit for ordered objects, which compare a new key with all existing keys. An
// adapter_config.json that names every layer of a 14B model has about 2,000 parts.
constexpr size_t kMaxOrderedParts = 10'000;

template <typename Json>
Json parse(std::string_view text, const std::string& origin, int max_depth, size_t max_parts) {
  using Event = typename Json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // keys of each open object, outermost first
  size_t parts = 0;
  const auto watch = [&](int depth, Event event, Json& parsed) {
    if (++parts > max_parts) {
      throw InputError(origin + ": JSON holds more than " + std::to_string(max_parts) + " parts");
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
    } else if (event == Event::key) {
      const auto key = parsed.template get<std::string>();
      if (!keys.back().insert(key).second) {
        throw InputError(origin + ": JSON names a key twice: " + quoted(key));
      }
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const typename Json::parse_error& error) {
    throw InputError(origin + ": expected JSON, found a mistake at byte " +
                     std::to_string(error.byte));
  } catch (const typename Json::exception&) {
    throw InputError(origin + ": JSON holds a number that is out of range");
  }
}

std::string_view text_of(const MappedFile& file, size_t max_bytes) {
  const auto bytes = file.bytes();
  if (bytes.size() > max_bytes) {
    throw InputError(file.path() + ": expected JSON of at most " + std::to_string(max_bytes) +
                     " bytes, found " + std::to_string(bytes.size()));
  }
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

template <typename Json>
std::string shown_value(const Json& value) {
  constexpr size_t kMaxLength = 120;
  return value.is_string() ? quoted(value.template get<std::string>())
                           : value.dump().substr(0, kMaxLength);
}

}  // namespace

nlohmann::json parse_bounded_json(std::string_view text, const std::string& origin, int max_depth) {
  return parse<nlohmann::json>(text, origin, max_depth, kMaxParts);
}

nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& origin,
                                          int max_depth) {
  return parse<nlohmann::ordered_json>(text, origin, max_depth, kMaxOrderedParts);
}

nlohmann::json read_json_file(const std::filesystem::path& file, size_t max_bytes) {
  const MappedFile mapped(file);
  return parse_bounded_json(text_of(mapped, max_bytes), mapped.path());
}

nlohmann::ordered_json read_ordered_json_file(const std::filesystem::path& file, size_t max_bytes) {
  const MappedFile mapped(file);
  return parse_ordered_json(text_of(mapped, max_bytes), mapped.path());
}

nlohmann::json read_json_object(const std::filesystem::path& file) {
  nlohmann::json json = read_json_file(file);
  if (!json.is_object()) {
    throw InputError(file.string() + ": expected a JSON object, found " + json.type_name());
  }
  return json;
}

std::string shown(const nlohmann::json& value) {
  return shown_value(value);
}

std::string shown(const nlohmann::ordered_json& value) {
  return shown_value(value);
}

}  // namespace ospnext
