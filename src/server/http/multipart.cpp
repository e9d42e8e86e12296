#include "server/http/multipart.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr size_t kMostParts = 64;
constexpr size_t kMostHeaderBytes = 4096;  // of a part
constexpr size_t kLongestBoundary = 70;
constexpr std::string_view kLineEnd = "\r\n";

[[noreturn]] void refuse(const std::string& what) {
  throw InputError("the form: " + what);
}

std::string in_lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char letter) { return std::tolower(letter); });
  return lower;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) {
    text.remove_prefix(1);
  }
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) {
    text.remove_suffix(1);
  }
  return text;
}

// Takes a word, or a text in quotes, from the front of `text`. In quotes a backslash stands before
// a quote or a backslash.
std::string take_value(std::string_view& text) {
  std::string value;
  if (!text.starts_with('"')) {
    const size_t end = std::min(text.find(';'), text.size());
    value = trimmed(text.substr(0, end));
    text.remove_prefix(end);
    return value;
  }
  text.remove_prefix(1);
  while (!text.empty() && text.front() != '"') {
    if (text.front() == '\\' && text.size() > 1 && (text[1] == '"' || text[1] == '\\')) {
      text.remove_prefix(1);
    }
    value += text.front();
    text.remove_prefix(1);
  }
  text.remove_prefix(std::min<size_t>(1, text.size()));
  return value;
}

// The parameters of a header such as `form-data; name="a"; filename="b"`, names in lower case.
std::map<std::string, std::string> parameters_of(std::string_view header) {
  std::map<std::string, std::string> parameters;
  header.remove_prefix(std::min(header.find(';'), header.size()));
  while (!header.empty()) {
    header = trimmed(header.substr(1));
    const size_t equals = header.find_first_of("=;");
    const std::string name = in_lower_case(trimmed(header.substr(0, equals)));
    header.remove_prefix(std::min(equals, header.size()));
    if (header.starts_with('=')) {
      header = trimmed(header.substr(1));
      parameters.emplace(name, take_value(header));
      header.remove_prefix(std::min(header.find(';'), header.size()));
    }
  }
  return parameters;
}

// Name and kind of a part, of its headers.
FormPart part_of(std::string_view headers) {
  while (!headers.empty()) {
    const size_t end = std::min(headers.find(kLineEnd), headers.size());
    const std::string_view line = headers.substr(0, end);
    const size_t colon = std::min(line.find(':'), line.size());
    if (in_lower_case(line.substr(0, colon)) == "content-disposition") {
      const auto parameters = parameters_of(line.substr(std::min(colon + 1, line.size())));
      if (const auto name = parameters.find("name"); name != parameters.end()) {
        return {name->second, "",
                parameters.contains("filename") || parameters.contains("filename*")};
      }
    }
    headers.remove_prefix(std::min(end + kLineEnd.size(), headers.size()));
  }
  refuse("found a part without a name, expected Content-Disposition: form-data; name=\"...\"");
}

}  // namespace

std::string form_boundary(std::string_view content_type) {
  const auto parameters = parameters_of(content_type);
  const auto found = parameters.find("boundary");
  const auto fits = [](unsigned char letter) {
    return std::isalnum(letter) != 0 ||
           std::string_view("'()+_,-./:=? ").find(letter) != std::string_view::npos;
  };
  if (found == parameters.end() || found->second.empty() ||
      found->second.size() > kLongestBoundary || found->second.ends_with(' ') ||
      !std::all_of(found->second.begin(), found->second.end(), fits)) {
    return "";
  }
  return found->second;
}

std::vector<FormPart> parse_form(std::string_view body, std::string_view boundary) {
  const std::string delimiter = "\r\n--" + std::string(boundary);
  std::vector<FormPart> parts;
  // The first delimiter may stand at the very beginning, without the line's end before it.
  const std::string_view first = std::string_view(delimiter).substr(kLineEnd.size());
  if (body.starts_with(first)) {
    body.remove_prefix(first.size());
  } else if (const size_t place = body.find(delimiter); place != body.npos) {
    body.remove_prefix(place + delimiter.size());
  } else {
    refuse("found no boundary in it, expected the one that Content-Type names");
  }
  while (!body.starts_with("--")) {
    const size_t line = body.find(kLineEnd);
    if (line == body.npos || !trimmed(body.substr(0, line)).empty()) {
      refuse("found text behind a boundary, expected the end of a line");
    }
    body.remove_prefix(line);  // the headers may be none: then this is also their end
    const size_t blank = body.substr(0, kMostHeaderBytes).find("\r\n\r\n");
    if (blank == body.npos) {
      refuse("found no empty line behind the headers of a part, expected one in 4096 bytes");
    }
    FormPart part =
        part_of(body.substr(kLineEnd.size(), std::max(blank, kLineEnd.size()) - kLineEnd.size()));
    body.remove_prefix(blank + kLineEnd.size());  // keeps one line's end, the delimiter may follow
    const size_t end = body.find(delimiter);
    if (end == body.npos) {
      refuse("it ends inside a part, expected a boundary");
    }
    part.value = body.substr(std::min(kLineEnd.size(), end), end - std::min(kLineEnd.size(), end));
    parts.push_back(std::move(part));
    if (parts.size() > kMostParts) {
      refuse("found more than 64 parts");
    }
    body.remove_prefix(end + delimiter.size());
  }
  return parts;
}

}  // namespace ospnext
