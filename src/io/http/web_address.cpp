#include "io/http/web_address.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/error.h"

namespace ospnext {
namespace {

constexpr uint16_t kPort = 80, kSecurePort = 443;

bool is_host(const std::string& host) {
  const bool is_v6 = host.find(':') != std::string::npos;
  return !host.empty() && std::all_of(host.begin(), host.end(), [&](unsigned char letter) {
    return std::isalnum(letter) != 0 || letter == '.' || letter == '-' || letter == '_' ||
           (is_v6 && letter == ':');
  });
}

}  // namespace

std::string WebAddress::authority() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return (is_v6 ? "[" + host + "]" : host) +
         (port == (is_secure ? kSecurePort : kPort) ? "" : ":" + std::to_string(port));
}

std::optional<WebAddress> parse_url(const std::string& url) {
  WebAddress address;
  address.is_secure = url.starts_with("https://");
  if (!address.is_secure && !url.starts_with("http://")) {
    return std::nullopt;
  }
  std::string rest = url.substr(address.is_secure ? 8 : 7);
  const size_t slash = std::min(rest.find_first_of("/?#"), rest.size());
  if (slash < rest.size()) {
    address.target = (rest[slash] == '/' ? "" : "/") + rest.substr(slash);
    rest.resize(slash);
  }
  const size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  if (bracket == std::string::npos) {
    return std::nullopt;
  }
  const size_t colon = std::min(rest.find(':', bracket), rest.size());
  address.host = bracket == 0 ? rest.substr(0, colon) : rest.substr(1, bracket - 1);
  address.port = address.is_secure ? kSecurePort : kPort;
  if (colon < rest.size()) {
    const char* const end = rest.data() + rest.size();
    const auto [stopped, error] = std::from_chars(rest.data() + colon + 1, end, address.port);
    if (error != std::errc() || stopped != end || address.port == 0) {
      return std::nullopt;
    }
  }
  const bool is_visible =
      std::all_of(address.target.begin(), address.target.end(),
                  [](char letter) { return letter > ' ' && letter < 0x7f && letter != '#'; });
  const bool has_rest = bracket != 0 && colon != bracket + 1;  // text behind the bracket
  return is_host(address.host) && is_visible && !has_rest ? std::optional(address) : std::nullopt;
}

std::vector<WebAddress> parse_origins(const std::vector<std::string>& urls,
                                      const std::string& field) {
  std::vector<WebAddress> origins;
  for (const std::string& url : urls) {
    const auto origin = parse_url(url);
    if (!origin || origin->target != "/") {
      throw InputError(field + ": found \"" + url +
                       "\", expected an address such as https://hooks.example.org");
    }
    origins.push_back(*origin);
  }
  return origins;
}

bool is_at(const std::vector<WebAddress>& origins, const std::string& url) {
  const auto address = parse_url(url);
  return address && std::any_of(origins.begin(), origins.end(), [&](const WebAddress& origin) {
           return address->has_origin_of(origin);
         });
}

}  // namespace ospnext
