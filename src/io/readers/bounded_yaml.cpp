#include "io/readers/bounded_yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "core/error.h"
#include "io/readers/mapped_file.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using nlohmann::json;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// `text` as a decimal number, or nothing if any part is not decimal; no inf, nan, octal or
// hexadecimal.
std::optional<json> number(std::string_view text) {
  const std::string_view digits =
      text.substr(text.starts_with('-') || text.starts_with('+') ? 1 : 0);
  const bool has_digit =
      !digits.empty() &&
      (is_digit(digits[0]) || (digits[0] == '.' && digits.size() > 1 && is_digit(digits[1])));
  const bool is_padded = digits.size() > 1 && digits[0] == '0' && is_digit(digits[1]);
  if (!has_digit || is_padded) {
    return std::nullopt;
  }
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  const char* end = text.data() + text.size();
  int64_t whole = 0;
  if (const auto [stop, error] = std::from_chars(begin, end, whole);
      error == std::errc() && stop == end) {
    return whole;
  }
  uint64_t large = 0;
  if (const auto [stop, error] = std::from_chars(begin, end, large);
      error == std::errc() && stop == end) {
    return large;
  }
  double real = 0;
  if (const auto [stop, error] = std::from_chars(begin, end, real);
      error == std::errc() && stop == end) {
    return real;
  }
  return std::nullopt;
}

json scalar(const std::string& text) {
  if (text == "true" || text == "True" || text == "TRUE") {
    return true;
  }
  if (text == "false" || text == "False" || text == "FALSE") {
    return false;
  }
  return number(text).value_or(text);
}

// Builds JSON from the parser's events.
class JsonBuilder final : public YAML::EventHandler {
 public:
  JsonBuilder(std::string origin, int max_depth)
      : origin_(std::move(origin)), max_depth_(static_cast<size_t>(max_depth)) {}

  json take() { return std::move(document_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override {
    refuse(mark, "an alias (*), expected plain values");
  }
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    check(mark, "?", anchor);
    if (expects_key()) {
      refuse(mark, "an empty key");
    }
    add(nullptr);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    check(mark, tag, anchor);
    if (expects_key()) {
      if (open_.back().value.contains(value)) {
        refuse(mark, "the key " + quoted(value) + " twice");
      }
      open_.back().key = value;
    } else {
      add(tag == kQuoted ? json(value) : scalar(value));
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor, json::array());
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    begin(mark, tag, anchor, json::object());
  }
  void OnMapEnd() override { end(); }

 private:
  static constexpr const char* kQuoted = "!";  // the parser's tag for a quoted scalar

  struct Level {
    json value;
    std::optional<std::string> key;  // of an object, after it was read
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& found) const {
    throw InputError(origin_ + ": line " + std::to_string(mark.line + 1) + ": found " + found);
  }
  void check(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) {
      refuse(mark, "an anchor (&), expected plain values");
    }
    if (!tag.empty() && tag != "?" && tag != kQuoted) {
      refuse(mark, "the tag " + quoted(tag) + ", expected plain values");
    }
  }
  bool expects_key() const {
    return !open_.empty() && open_.back().value.is_object() && !open_.back().key;
  }
  void begin(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, json empty) {
    check(mark, tag, anchor);
    if (expects_key()) {
      refuse(mark, "a key that is a list or a mapping, expected text");
    }
    if (open_.size() >= max_depth_) {
      refuse(mark, "values nested deeper than " + std::to_string(max_depth_) + " levels");
    }
    open_.push_back({std::move(empty), std::nullopt});
  }
  void end() {
    json value = std::move(open_.back().value);
    open_.pop_back();
    add(std::move(value));
  }
  void add(json value) {
    if (open_.empty()) {
      document_ = std::move(value);
    } else if (open_.back().value.is_array()) {
      open_.back().value.push_back(std::move(value));
    } else {
      open_.back().value[*open_.back().key] = std::move(value);
      open_.back().key.reset();
    }
  }

  std::string origin_;
  size_t max_depth_;
  std::vector<Level> open_;
  json document_;
};

}  // namespace

json parse_bounded_yaml(std::string_view text, const std::string& origin, int max_depth) {
  try {
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    JsonBuilder builder(origin, max_depth);
    if (!parser.HandleNextDocument(builder)) {
      throw InputError(origin + ": expected YAML, found nothing");
    }
    JsonBuilder second(origin, max_depth);
    if (parser.HandleNextDocument(second)) {
      throw InputError(origin + ": found several YAML documents, expected one");
    }
    json document = builder.take();
    static_cast<void>(document.dump());  // throws for text that is not UTF-8
    return document;
  } catch (const YAML::Exception& error) {
    throw InputError(origin + ": line " + std::to_string(error.mark.line + 1) +
                     ": expected YAML: " + quoted(error.msg));  // the message may quote the file
  } catch (const json::exception&) {
    throw InputError(origin + ": expected UTF-8 text");
  }
}

json read_yaml_file(const std::filesystem::path& file, size_t max_bytes) {
  const MappedFile mapped(file);
  const auto bytes = mapped.bytes();
  if (bytes.size() > max_bytes) {
    throw InputError(mapped.path() + ": expected YAML of at most " + std::to_string(max_bytes) +
                     " bytes, found " + std::to_string(bytes.size()));
  }
  return parse_bounded_yaml({reinterpret_cast<const char*>(bytes.data()), bytes.size()},
                            mapped.path());
}

}  // namespace ospnext
