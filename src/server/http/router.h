// The routes of a server: which function answers which method and path.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "server/http/message.h"

namespace ospnext {

// A pattern has names in braces for parts of the path: "/v1/videos/{id}/content".
using PathValues = std::map<std::string, std::string>;

struct Route {
  std::string method;
  std::string pattern;
  std::string summary;
  std::string takes;  // the name of the body's schema; "": no body
  std::string gives;  // the name of the answer's schema, or its type: "text/plain"
  bool needs_key = true;
  std::function<HttpResponse(const HttpRequest& request, const PathValues& values)> answer;
};

// The values of a path's names, decoded; nothing if the path does not fit the pattern.
std::optional<PathValues> match_path(const std::string& pattern, const std::string& path);

struct Match {
  const Route* route = nullptr;  // null: no route of this method fits
  PathValues values;
  std::string allowed;  // methods of the routes whose patterns fit, "GET, DELETE"; "": none fits
};
// HEAD is taken by the routes of GET.
Match find_route(const std::vector<Route>& routes, const std::string& method,
                 const std::string& path);

}  // namespace ospnext
