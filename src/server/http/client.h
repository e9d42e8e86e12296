// Sends a request to another server.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "server/http/web_address.h"

namespace ospnext {

// Posts JSON and returns the status of the answer; follows nothing. Of https, the certificate must
// be that of the host, by the system's authorities. Throws RunError when there is no answer within
// `patience_s` seconds.
int post_json(const WebAddress& address,
              const std::vector<std::pair<std::string, std::string>>& headers,
              const std::string& body, int patience_s);

}  // namespace ospnext
