#include "rl/rewards/http_service.h"

#include <httplib.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <thread>

#include "core/error.h"
#include "core/pipe_signal_block.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

struct Address {
  std::string origin;  // http://HOST:PORT, as httplib takes it
  std::string path;    // without a slash at the end
};

Address parse_address(const std::string& url) {
  const size_t scheme = url.find("://");
  const size_t host = scheme == url.npos ? url.npos : scheme + 3;
  const size_t slash = host == url.npos ? url.npos : url.find('/', host);
  Address address{url.substr(0, slash), slash == url.npos ? "" : url.substr(slash)};
  while (address.path.ends_with('/')) {
    address.path.pop_back();
  }
  return address;
}

// What came of one try: an answer, or why there is none.
struct Try {
  int status = 0;
  std::string body;
  std::string failure;    // empty: there is an answer
  bool may_pass = false;  // the same may work later
};

const char* sentence_of(httplib::Error error) {
  switch (error) {
    case httplib::Error::Connection:
    case httplib::Error::ConnectionTimeout:
    case httplib::Error::BindIPAddress:
      return "cannot be reached";
    case httplib::Error::SSLConnection:
    case httplib::Error::SSLLoadingCerts:
    case httplib::Error::SSLServerVerification:
      return "cannot be reached over https: its certificate is not trusted, or it speaks no TLS";
    default:
      return "the connection was lost before the whole answer had come";
  }
}

// Ends what a client does when a job is cancelled or the time is over.
class Watch {
 public:
  Watch(httplib::Client& client, Clock::time_point limit, const CancellationToken& cancel)
      : thread_([this, &client, limit, &cancel](const std::stop_token& done) {
          constexpr milliseconds kPoll(20);
          std::unique_lock lock(mutex_);
          while (!done.stop_requested()) {
            woken_.wait_for(lock, done, kPoll, [] { return false; });
            if (!done.stop_requested() && (cancel.cancelled() || Clock::now() >= limit)) {
              client.stop();
            }
          }
        }) {}

 private:
  std::mutex mutex_;
  std::condition_variable_any woken_;
  std::jthread thread_;
};

Try ask(const Address& address, const httplib::Request& asked, size_t most, Clock::time_point limit,
        const CancellationToken& cancel) {
  constexpr milliseconds kLongestConnect(10'000), kSpare(1000);
  const PipeSignalBlock block;
  httplib::Client client(address.origin);
  const auto left =
      std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(limit - Clock::now()));
  client.set_connection_timeout(std::min(left, kLongestConnect));
  client.set_read_timeout(left + kSpare);  // the watch is earlier
  client.set_write_timeout(left + kSpare);
  Try result;
  httplib::Request request = asked;
  request.content_receiver = [&](const char* bytes, size_t count, uint64_t, uint64_t) {
    result.body.append(bytes, std::min(count, most + 1 - result.body.size()));
    return result.body.size() <= most;
  };
  httplib::Response response;
  httplib::Error error = httplib::Error::Success;
  bool has_answered = false;
  {
    const Watch watch(client, limit, cancel);
    has_answered = client.send(request, response, error);
  }
  cancel.check();
  if (result.body.size() > most) {
    result.failure = "found an answer of more than " + std::to_string(most) + " bytes";
  } else if (has_answered) {
    result.status = response.status;
  } else {
    result.failure = sentence_of(error);
    result.may_pass = true;
  }
  return result;
}

// Whether a service that answered with the status may give another answer to the `count`-th try.
bool may_pass(int status, int count) {
  constexpr int kTriesOfFault = 3;
  return status == 429 || (status >= 502 && status <= 504) ||
         (status == 500 && count < kTriesOfFault);
}

void wait(Clock::time_point until, const CancellationToken& cancel) {
  constexpr milliseconds kPoll(20);
  while (Clock::now() < until) {
    cancel.check();
    std::this_thread::sleep_for(std::min<Clock::duration>(kPoll, until - Clock::now()));
  }
}

std::string answer(const HttpService& service, httplib::Request request, const std::string& path,
                   const CancellationToken& cancel) {
  constexpr milliseconds kFirstWait(250), kLongestWait(8000);
  const Address address = parse_address(service.url);
  request.path = address.path + path;
  const auto limit = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                        std::chrono::duration<double>(service.seconds));
  milliseconds pause = kFirstWait;
  for (int count = 1;; ++count) {
    Try result = ask(address, request, service.most, limit, cancel);
    if (result.failure.empty() && result.status == 200) {
      return std::move(result.body);
    }
    if (Clock::now() >= limit) {
      throw RunError("found no answer after " + nlohmann::json(service.seconds).dump() +
                     " seconds");
    }
    if (result.failure.empty()) {
      result.failure = "found status " + std::to_string(result.status) +
                       ", expected 200: " + ospnext::quoted(result.body);
      result.may_pass = may_pass(result.status, count);
    }
    if (!result.may_pass || Clock::now() + pause >= limit) {
      throw RunError(result.failure);
    }
    wait(Clock::now() + pause, cancel);
    pause = std::min(2 * pause, kLongestWait);
  }
}

}  // namespace

void HttpService::check(const std::string& origin) const {
  const Address address = parse_address(url);
  bool fits = (url.starts_with("http://") || url.starts_with("https://")) &&
              url.find_first_of(" \t\r\n\"<>?#@") == url.npos;
  const size_t host = address.origin.find("://") + 3;
  const size_t end_of_host = address.origin.find(']', host);  // of an IPv6 address in brackets
  const size_t colon = address.origin.find(':', end_of_host == url.npos ? host : end_of_host);
  fits = fits && host < address.origin.size() && colon != host;
  if (fits && colon != url.npos) {
    const std::string port = address.origin.substr(colon + 1);
    fits = !port.empty() && port.size() <= 5 && port.find_first_not_of("0123456789") == port.npos &&
           std::stoi(port) <= 65535 && std::stoi(port) > 0;
  }
  if (!fits) {
    throw InputError(origin + ": found " + quoted(url) +
                     ", expected an address such as http://127.0.0.1:8080");
  }
}

std::string HttpService::get(const std::string& path, const CancellationToken& cancel) const {
  httplib::Request request;
  request.method = "GET";
  return answer(*this, std::move(request), path, cancel);
}

std::string HttpService::post(const std::string& path, const std::string& json,
                              const CancellationToken& cancel) const {
  httplib::Request request;
  request.method = "POST";
  request.body = json;
  request.set_header("Content-Type", "application/json");
  return answer(*this, std::move(request), path, cancel);
}

}  // namespace ospnext
