// URLs of other servers, taken apart.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ospnext {

struct WebAddress {
  bool is_secure = false;  // https
  std::string host;
  uint16_t port = 0;
  std::string target = "/";  // path and query

  // "a.example", "a.example:8080", "[::1]:81": as URLs and the header Host have it.
  std::string authority() const;
  // Scheme, host and port: what an operator allows.
  bool has_origin_of(const WebAddress& other) const {
    return is_secure == other.is_secure && host == other.host && port == other.port;
  }
};

// Takes a URL apart: http or https, a host of letters, digits, dots, dashes and underscores (or an
// IPv6 address in brackets), perhaps a port, and a target without spaces, controls or a fragment.
// Nothing for another text, such as one with a user's name.
std::optional<WebAddress> parse_url(const std::string& url);

// The addresses of URLs without a path, such as https://hooks.example.org. Throws InputError, which
// begins with `field`, for another text.
std::vector<WebAddress> parse_origins(const std::vector<std::string>& urls,
                                      const std::string& field);
// Whether a URL is one, of one of these addresses.
bool is_at(const std::vector<WebAddress>& origins, const std::string& url);

}  // namespace ospnext
