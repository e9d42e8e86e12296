#include "rl/rewards/http_service.h"

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "core/error.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kMostBytes = 16UL << 20;  // of an answer

// What came of one try: an answer of status 200, or why there is none.
struct Try {
  std::string body;
  std::string failure = {};
  bool may_pass = false;  // the same may work later
};

// Whether a service that answered with the status may give another answer after the `count`-th try.
bool may_pass(int status, int count) {
  constexpr int kTriesOfFault = 3;
  return status == 429 || (status >= 502 && status <= 504) ||
         (status == 500 && count < kTriesOfFault);
}

Try ask(const ClientRequest& request, Clock::time_point limit, int count,
        const CancellationToken& cancel) {
  const auto left = std::chrono::ceil<milliseconds>(limit - Clock::now());
  try {
    ClientAnswer answer = send_request(request, {left, kMostBytes}, cancel);
    if (answer.is_longer) {
      return {"", "found an answer of more than " + std::to_string(kMostBytes) + " bytes"};
    }
    if (answer.status == 200) {
      return {std::move(answer.body)};
    }
    return {"",
            "found status " + std::to_string(answer.status) +
                ", expected 200: " + ospnext::quoted(answer.body),
            may_pass(answer.status, count)};
  } catch (const RunError& error) {
    return {"", error.what(), true};
  }
}

void wait(Clock::time_point until, const CancellationToken& cancel) {
  constexpr milliseconds kPoll(20);
  while (Clock::now() < until) {
    cancel.check();
    std::this_thread::sleep_for(std::min<Clock::duration>(kPoll, until - Clock::now()));
  }
}

}  // namespace

HttpService::HttpService(const std::string& url, double seconds, const std::string& field)
    : seconds_(seconds) {
  const auto address = parse_url(url);
  if (!address || address->target.find('?') != std::string::npos) {
    throw InputError(field + ": found " + ospnext::quoted(url) +
                     ", expected an address such as http://127.0.0.1:8080");
  }
  address_ = *address;
  while (address_.target.ends_with('/')) {
    address_.target.pop_back();
  }
}

WebAddress HttpService::below(const std::string& path) const {
  WebAddress address = address_;
  address.target += path;
  return address;
}

std::string HttpService::answer(const ClientRequest& request,
                                const CancellationToken& cancel) const {
  constexpr milliseconds kFirstWait(250), kLongestWait(8000);
  const auto limit = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(seconds_));
  milliseconds pause = kFirstWait;
  for (int count = 1;; ++count) {
    Try result = ask(request, limit, count, cancel);
    if (result.failure.empty()) {
      return std::move(result.body);
    }
    if (Clock::now() >= limit) {
      throw RunError("found no answer after " + nlohmann::json(seconds_).dump() + " seconds");
    }
    if (!result.may_pass || Clock::now() + pause >= limit) {
      throw RunError(result.failure);
    }
    wait(Clock::now() + pause, cancel);
    pause = std::min(2 * pause, kLongestWait);
  }
}

std::string HttpService::get(const std::string& path, const CancellationToken& cancel) const {
  return answer({.address = below(path)}, cancel);
}

std::string HttpService::post(const std::string& path, const std::string& json,
                              const CancellationToken& cancel) const {
  return answer({.address = below(path), .method = "POST", .json = json}, cancel);
}

}  // namespace ospnext
