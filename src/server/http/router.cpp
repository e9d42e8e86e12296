#include "server/http/router.h"

#include <algorithm>

namespace ospnext {
namespace {

// The text up to the next slash, taken from the front of `path`.
std::string take_part(std::string_view& path) {
  const size_t end = std::min(path.find('/'), path.size());
  std::string part(path.substr(0, end));
  path.remove_prefix(std::min(end + 1, path.size()));
  return part;
}

}  // namespace

std::optional<PathValues> match_path(const std::string& pattern, const std::string& path) {
  if (std::count(pattern.begin(), pattern.end(), '/') !=
      std::count(path.begin(), path.end(), '/')) {
    return std::nullopt;
  }
  PathValues values;
  std::string_view expected = pattern, found = path;
  while (!expected.empty() || !found.empty()) {
    const std::string name = take_part(expected), part = take_part(found);
    const auto value = decode_escapes(part);
    if (name.starts_with('{') && value && !value->empty()) {
      values.emplace(name.substr(1, name.size() - 2), *value);
    } else if (name != part) {
      return std::nullopt;
    }
  }
  return values;
}

Match find_route(const std::vector<Route>& routes, const std::string& method,
                 const std::string& path) {
  Match match;
  for (const Route& route : routes) {
    const auto values = match_path(route.pattern, path);
    if (!values) {
      continue;
    }
    match.allowed += (match.allowed.empty() ? "" : ", ") + route.method;
    if (match.route == nullptr &&
        (route.method == method || (method == "HEAD" && route.method == "GET"))) {
      match.route = &route;
      match.values = *values;
    }
  }
  return match;
}

}  // namespace ospnext
