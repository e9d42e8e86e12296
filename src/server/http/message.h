// A request and a response of HTTP, in terms of no library.
#pragma once

#include <cstdint>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ospnext {

struct HttpRequest {
  std::string method;
  std::string path;                            // as it was sent, without the query
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // names in lower case; several of one name joined
  std::string body;

  // "" if the request has no such header. `name` in lower case.
  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

// Bytes of an open file.
struct FilePart {
  std::shared_ptr<std::ifstream> file;
  uint64_t begin = 0;
  uint64_t length = 0;
};

// Gives what there is to send next: "" if nothing is new, nothing at the end of the stream. It is
// asked a few times a second, from any thread, never by two at once.
using EventSource = std::function<std::optional<std::string>()>;

struct HttpResponse {
  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::variant<std::string, FilePart, EventSource> body;
};

// What answers requests. Called by several threads at once.
class HttpApplication {
 public:
  virtual ~HttpApplication() = default;
  // An answer that needs no body, such as a refusal, before the body is read; else nothing.
  virtual std::optional<HttpResponse> refuse(const HttpRequest& head) = 0;
  virtual HttpResponse answer(const HttpRequest& request) = 0;
  // The answer to what is no request: `status` and a sentence.
  virtual HttpResponse malformed(int status, const std::string& message) = 0;
};

// Splits a target such as "/v1/videos?limit=5" into path and query. False if it does not begin with
// a slash, has bytes that no target has, or a broken escape in the query.
bool split_target(const std::string& target, HttpRequest& request);

// A part of a path or query with its escapes (%41) decoded. Nothing for a broken one.
std::optional<std::string> decode_escapes(std::string_view text);

// What a Range header asks of a body of `size` bytes.
struct ByteRange {
  enum class Kind { kWhole, kPart, kOutside };
  Kind kind = Kind::kWhole;
  uint64_t begin = 0;
  uint64_t length = 0;
};
// kWhole if there is no header, or it is of another form than one range of bytes, which a server
// may ignore. Source: RFC 9110, section 14.
ByteRange parse_range(const std::string& header, uint64_t size);

}  // namespace ospnext
