// Asks other servers over HTTP.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "core/cancel.h"
#include "io/http/web_address.h"

namespace ospnext {

struct ClientRequest {
  WebAddress address;
  std::string method = "GET";
  std::vector<std::pair<std::string, std::string>> headers = {};
  std::string json = {};  // the body; "": none
};

struct ClientLimits {
  std::chrono::milliseconds time;  // for all, from the look-up of the name to the last byte
  size_t bytes = 0;                // of the answer's body
};

struct ClientAnswer {
  int status = 0;
  std::string body;
  bool is_longer = false;  // the body has more bytes than the limit, and was not read to its end
};

// Sends a request and gives the answer; follows nothing. With a limit of no bytes the body is not
// waited for. The certificate of an https server must be that of the host, by the system's
// authorities or those of the variable SSL_CERT_FILE. Throws RunError, a sentence without the
// address, if there is no whole answer in time, and Cancelled.
ClientAnswer send_request(const ClientRequest& request, const ClientLimits& limits,
                          const CancellationToken& cancel = {});

}  // namespace ospnext
