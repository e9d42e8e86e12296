#include "io/readers/training_index.h"

#include <cmath>
#include <cstdio>
#include <set>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using nlohmann::json;

constexpr int64_t kFormat = 1;
constexpr int64_t kMostSteps = 1'000'000'000;
constexpr int64_t kMostElements = int64_t{1} << 48;  // of a tensor

[[noreturn]] void refuse(const std::string& where, const json& found, const std::string& expected) {
  throw InputError(where + ": found " + shown(found) + ", expected " + expected);
}

const json& checked_object(const json& value, const std::string& where) {
  if (!value.is_object()) {
    refuse(where, value, "an object");
  }
  return value;
}

// The entry `key` of an object.
const json& entry(const json& object, const char* key, const std::string& where) {
  const auto found = checked_object(object, where).find(key);
  if (found == object.end()) {
    throw InputError(where + ": " + key + " is missing");
  }
  return *found;
}

int64_t whole_number(const json& value, int64_t most, const std::string& where) {
  const bool fits =
      value.is_number_unsigned()
          ? value.get<uint64_t>() <= static_cast<uint64_t>(most)
          : value.is_number_integer() && value.get<int64_t>() >= 0 && value.get<int64_t>() <= most;
  if (!fits) {
    refuse(where, value, "a whole number from 0 to " + std::to_string(most));
  }
  return value.get<int64_t>();
}

bool is_file_of_rank(const std::string& name) {
  const std::string pattern = file_of_rank(0);
  const size_t digits = pattern.find('0'), end = pattern.rfind('0') + 1;
  return name.size() == pattern.size() && name.substr(0, digits) == pattern.substr(0, digits) &&
         name.substr(end) == pattern.substr(end) &&
         name.substr(digits, end - digits).find_first_not_of("0123456789") == std::string::npos;
}

std::vector<std::string> files_from_json(const json& names, const std::string& where) {
  if (!names.is_array() || names.empty()) {
    refuse(where, names, "names of files");
  }
  std::vector<std::string> files;
  std::set<std::string> seen;
  for (const json& name : names) {
    if (!name.is_string() || !is_file_of_rank(name.get<std::string>())) {
      refuse(where, name, "a name like " + file_of_rank(0));
    }
    files.push_back(name.get<std::string>());
    if (!seen.insert(files.back()).second) {
      throw InputError(where + ": found " + files.back() + " twice");
    }
  }
  return files;
}

std::vector<int64_t> shape_from_json(const json& sides, const std::string& where) {
  if (!sides.is_array() || sides.size() > kMaxDimensions) {
    refuse(where, sides, "the sides of a tensor");
  }
  std::vector<int64_t> shape;
  for (const json& side : sides) {
    shape.push_back(whole_number(side, kMostElements, where));
  }
  if (!byte_count(shape, sizeof(float))) {
    refuse(where, sides, "the sides of a tensor that fits into memory");
  }
  return shape;
}

}  // namespace

json TrainingIndex::json() const {
  return {{"format", kFormat}, {"step", step},           {"files", files}, {"numbers", numbers},
          {"shapes", shapes},  {"objective", objective}, {"model", model}};
}

std::string file_of_rank(int rank) {
  char name[32];
  std::snprintf(name, sizeof(name), "rank-%05d.safetensors", rank);
  return name;
}

TrainingIndex training_index_from_json(const json& json, const std::string& where) {
  if (const auto& format = entry(json, "format", where); format != kFormat) {
    refuse(where + ": format", format, std::to_string(kFormat));
  }
  TrainingIndex index;
  index.step = whole_number(entry(json, "step", where), kMostSteps, where + ": step");
  index.files = files_from_json(entry(json, "files", where), where + ": files");
  const std::string numbers = where + ": numbers", shapes = where + ": shapes";
  for (const auto& [name, number] :
       checked_object(entry(json, "numbers", where), numbers).items()) {
    if (!number.is_number() || !std::isfinite(number.get<double>())) {
      refuse(numbers + ": " + quoted(name), number, "a number");
    }
    index.numbers[name] = number.get<double>();
  }
  for (const auto& [name, sides] : checked_object(entry(json, "shapes", where), shapes).items()) {
    index.shapes[name] = shape_from_json(sides, shapes + ": " + quoted(name));
  }
  index.objective = json.value("objective", nlohmann::json());
  index.model = json.value("model", nlohmann::json());
  return index;
}

std::map<std::string, int64_t> first_elements_from_json(const json& json,
                                                        const std::string& where) {
  std::map<std::string, int64_t> firsts;
  for (const auto& [name, first] : checked_object(json, where).items()) {
    firsts[name] = whole_number(first, kMostElements, where + ": " + quoted(name));
  }
  return firsts;
}

}  // namespace ospnext
