// Input: method, target and headers of a request, a line each, an empty line, and the body. The API
// must answer everything, and to nothing with a status that says it failed.
#include "fuzz/fuzz_entry.h"
#include "server/video_api.h"

namespace {

using namespace ospnext;

// The API on a store that lives as long as the program.
class FuzzedApi {
 public:
  HttpResponse call(const HttpRequest& request) {
    auto refusal = api_.refuse(request);
    return refusal ? *refusal : api_.answer(request);
  }

 private:
  static ApiSettings settings() {
    ApiSettings settings;
    settings.model.id = "tiny";
    settings.model.loras = {{"style", "style.safetensors"}};
    settings.origins.emplace_back("https://good.example");
    return settings;
  }
  static StoreLimits limits() {
    StoreLimits limits;
    limits.queued = 20;
    return limits;
  }

  const fuzz::Folder folder_{{}};
  JobStore store_{folder_ / "data", limits()};
  Metrics metrics_;
  VideoApi api_{settings(), KeyRing(), store_, metrics_, [](const std::string&) {}, [] {}};
};

HttpRequest request_of(std::string_view input) {
  HttpRequest request;
  request.method = fuzz::take_line(input);
  if (!split_target(fuzz::take_line(input), request)) {
    request.path = "/v1/videos";
  }
  for (std::string line = fuzz::take_line(input); !line.empty(); line = fuzz::take_line(input)) {
    const size_t colon = std::min(line.find(':'), line.size());
    request.headers[line.substr(0, colon)] = line.substr(std::min(colon + 1, line.size()));
  }
  request.body = input;
  return request;
}

}  // namespace

FUZZ_ENTRY(http_request) {
  static FuzzedApi fuzzed;
  HttpResponse response = fuzzed.call(request_of(input));
  fuzz::require(response.status >= 200 && response.status < 500);
  if (auto* const next = std::get_if<EventSource>(&response.body)) {
    (*next)();
  }
  for (const auto& [name, value] : response.headers) {
    fuzz::require((name + value).find_first_of("\r\n") == std::string::npos);
  }
}
