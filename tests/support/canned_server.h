// An HTTP server that answers with whatever bytes a test gives.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"

namespace ospnext {

// "HTTP/1.1 200 OK" with a body, or another status line.
inline std::string http_answer(const std::string& body, const std::string& status = "200 OK") {
  return "HTTP/1.1 " + status +
         "\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) +
         "\r\n\r\n" + body;
}

// Takes one connection after the other: reads a request, sends the answer, closes.
class CannedServer {
 public:
  struct Request {
    std::string line;     // "POST /score HTTP/1.1"
    std::string headers;  // "Host: a\r\n...", to the end of the last line
    std::string body;
  };
  // Gets the requests so far, the newest last.
  using Answer = std::function<std::string(const std::vector<Request>& requests)>;

  explicit CannedServer(Answer answer)
      : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::listen(listener_, 8) != 0 ||
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      throw RunError("a test's server cannot listen");
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~CannedServer() {
    ::shutdown(listener_, SHUT_RDWR);  // ends accept()
    thread_.join();
    ::close(listener_);
  }
  CannedServer(const CannedServer&) = delete;
  CannedServer& operator=(const CannedServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<Request> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    for (;;) {
      const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) {
        return;
      }
      Request request = read_request(connection);
      std::vector<Request> all;
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(std::move(request));
        all = requests_;
      }
      const std::string answer = answer_(all);
      ::send(connection, answer.data(), answer.size(), MSG_NOSIGNAL);
      ::shutdown(connection, SHUT_WR);
      char rest[4096];
      while (::recv(connection, rest, sizeof rest, 0) > 0) {  // else the answer could be lost
      }
      ::close(connection);
    }
  }

  static Request read_request(int connection) {
    std::string text;
    size_t head = text.npos, length = 0;
    char buffer[1 << 16];
    while (head == text.npos || text.size() < head + length) {
      const ssize_t count = ::recv(connection, buffer, sizeof buffer, 0);
      if (count <= 0) {
        break;
      }
      text.append(buffer, static_cast<size_t>(count));
      const size_t end = text.find("\r\n\r\n");
      if (head == text.npos && end != text.npos) {
        head = end + 4;
        const size_t field = text.find("Content-Length: ");
        length = field < end ? std::stoul(text.substr(field + 16)) : 0;
      }
    }
    const size_t line = std::min(text.find("\r\n"), text.size());
    return head == text.npos ? Request{text.substr(0, line), "", ""}
                             : Request{text.substr(0, line), text.substr(line + 2, head - line - 4),
                                       text.substr(head)};
  }

  Answer answer_;
  int listener_;
  int port_ = 0;
  mutable std::mutex mutex_;
  std::vector<Request> requests_;
  std::thread thread_;
};

}  // namespace ospnext
