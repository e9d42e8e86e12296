// A service that is asked over HTTP: with a time limit, and again where that can help.
#pragma once

#include <string>

#include "core/cancel.h"

namespace ospnext {

struct HttpService {
  std::string url;           // http://HOST[:PORT][/PATH] or https://...; asked below it
  double seconds = 120;      // for an answer, all tries together
  size_t most = 16UL << 20;  // bytes of an answer

  // Throws InputError, beginning with `origin`, for a URL of another form.
  void check(const std::string& origin) const;
  // The answers to GET `path`, and to POST `path` with `json`. A service that cannot be reached,
  // breaks off, or says that it is busy (status 429, 502, 503, 504) is asked again after waits that
  // double, from a quarter of a second to eight seconds, until the time is over; after status 500
  // twice more. Throws RunError, a sentence without the URL, for a service that still has not
  // answered with status 200, and for a longer answer; and Cancelled.
  std::string get(const std::string& path, const CancellationToken& cancel) const;
  std::string post(const std::string& path, const std::string& json,
                   const CancellationToken& cancel) const;
};

}  // namespace ospnext
