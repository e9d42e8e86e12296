// Listens for HTTP/1.1 on a socket, with limits for everything that a client can send or keep.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/http/message.h"

namespace ospnext {

struct HttpLimits {
  size_t header_bytes = 16 << 10;
  size_t body_bytes = 1 << 20;
  int connections = 1024;
  // Seconds that a client may take, however it spreads its bytes over them.
  int idle_seconds = 60;    // until a request begins
  int header_seconds = 10;  // for its headers
  int body_seconds = 60;    // for its body
  int write_seconds = 60;   // for 64 KiB of an answer
};

// Answers requests in `threads` threads of its own as long as it lives. A waiting client, or one
// that reads a stream of events, takes no thread.
//
// Beside what the limits say, it refuses requests that two servers may read in different ways:
// Content-Length and Transfer-Encoding together or twice, another Transfer-Encoding than chunked, a
// Host that is missing or there twice. Source: RFC 9112, sections 3.2, 6.1 and 11.2.
class HttpServer {
 public:
  // `address` is a number such as 127.0.0.1 or ::1; port 0 takes a free one. `application` outlives
  // the server. Throws InputError if it cannot listen there.
  HttpServer(const std::string& address, uint16_t port, int threads, const HttpLimits& limits,
             HttpApplication& application);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ospnext
