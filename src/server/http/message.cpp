#include "server/http/message.h"

#include <algorithm>
#include <charconv>

namespace ospnext {
namespace {

std::optional<uint64_t> whole_number(std::string_view text) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end ? std::optional(number) : std::nullopt;
}

// In a query + is a space.
std::optional<std::string> decode(std::string_view text) {
  std::string spaced(text);
  std::replace(spaced.begin(), spaced.end(), '+', ' ');
  return decode_escapes(spaced);
}

bool add_parameter(std::string_view pair, HttpRequest& request) {
  const size_t equals = std::min(pair.find('='), pair.size());
  const auto name = decode(pair.substr(0, equals));
  const auto value = decode(pair.substr(std::min(equals + 1, pair.size())));
  return name && value && request.query.emplace(*name, *value).second;
}

}  // namespace

std::optional<std::string> decode_escapes(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned char byte = 0;
    const char* const first = text.data() + i + 1;
    if (i + 2 >= text.size() || std::from_chars(first, first + 2, byte, 16).ptr != first + 2) {
      return std::nullopt;
    }
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

bool split_target(const std::string& target, HttpRequest& request) {
  const auto is_visible = [](char letter) { return letter > ' ' && letter < 0x7f; };
  if (!target.starts_with('/') || !std::all_of(target.begin(), target.end(), is_visible)) {
    return false;
  }
  const size_t mark = std::min(target.find('?'), target.size());
  request.path = target.substr(0, mark);
  std::string_view query = std::string_view(target).substr(std::min(mark + 1, target.size()));
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    if (end > 0 && !add_parameter(query.substr(0, end), request)) {
      return false;
    }
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return true;
}

ByteRange parse_range(const std::string& header, uint64_t size) {
  const std::string_view unit = "bytes=";
  const ByteRange whole = {ByteRange::Kind::kWhole, 0, size};
  const std::string_view range =
      std::string_view(header).substr(std::min(unit.size(), header.size()));
  const size_t dash = range.find('-');
  if (!header.starts_with(unit) || dash == range.npos) {
    return whole;
  }
  const auto first = whole_number(range.substr(0, dash));
  const auto last = whole_number(range.substr(dash + 1));
  if (dash == 0) {  // the last bytes
    if (!last) {
      return whole;
    }
    const uint64_t length = std::min(*last, size);
    return {length > 0 ? ByteRange::Kind::kPart : ByteRange::Kind::kOutside, size - length, length};
  }
  const bool is_open = dash + 1 == range.size();
  if (!first || (!last && !is_open) || (last && *last < *first)) {
    return whole;
  }
  if (*first >= size) {
    return {ByteRange::Kind::kOutside, 0, 0};
  }
  const uint64_t end = is_open ? size : std::min(*last, size - 1) + 1;
  return {ByteRange::Kind::kPart, *first, end - *first};
}

}  // namespace ospnext
