// A service that is asked over HTTP: with a time limit, and again where that can help.
#pragma once

#include <string>

#include "core/cancel.h"
#include "io/http/client.h"

namespace ospnext {

class HttpService {
 public:
  // `url` is http://HOST[:PORT][/PATH] or https://..., below which the service is asked; `seconds`
  // is for an answer, all tries together. Throws InputError, beginning with `field`, for another
  // text.
  HttpService(const std::string& url, double seconds, const std::string& field);

  // The answers to GET `path`, and to POST `path` with `json`. A service that cannot be reached,
  // breaks off, or says that it is busy (status 429, 502, 503, 504) is asked again after waits that
  // double, from a quarter of a second to eight seconds, until the time is over; after status 500
  // twice more. Throws RunError, a sentence without the URL, for a service that still has not
  // answered with status 200, and for an answer of more than 16 MiB; and Cancelled.
  std::string get(const std::string& path, const CancellationToken& cancel) const;
  std::string post(const std::string& path, const std::string& json,
                   const CancellationToken& cancel) const;

 private:
  std::string answer(const ClientRequest& request, const CancellationToken& cancel) const;
  WebAddress below(const std::string& path) const;

  WebAddress address_;  // its target has no slash at the end
  double seconds_;
};

}  // namespace ospnext
