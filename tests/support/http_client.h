// A client that sends exactly the bytes it is given, as attackers do.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace ospnext {

// A connection to a port of this machine. Waits at most `patience_s` for bytes.
class RawClient {
 public:
  explicit RawClient(uint16_t port, int patience_s = 10)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience = {patience_s, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    is_connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { ::close(socket_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool is_connected() const { return is_connected_; }
  // False once the server does not take more.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) {
        return false;
      }
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
    return true;
  }
  void finish_sending() { ::shutdown(socket_, SHUT_WR); }
  // Reads until `end` has come, or the connection ends.
  std::string read_until(const std::string& end) {
    while (received_.find(end) == std::string::npos && read_some()) {
    }
    const size_t place = received_.find(end);
    const size_t size = place == std::string::npos ? received_.size() : place + end.size();
    std::string text = received_.substr(0, size);
    received_.erase(0, size);
    return text;
  }
  // One answer with a Content-Length: its head and its body.
  std::pair<std::string, std::string> read_answer() {
    const std::string head = read_until("\r\n\r\n");
    const size_t place = head.find("Content-Length: ");
    const size_t length =
        place == std::string::npos ? 0 : std::strtoull(head.c_str() + place + 16, nullptr, 10);
    while (received_.size() < length && read_some()) {
    }
    std::string body = received_.substr(0, length);
    received_.erase(0, body.size());
    return {head, body};
  }
  // All bytes until the server ends the connection.
  std::string read_all() {
    while (read_some()) {
    }
    return std::exchange(received_, {});
  }

 private:
  bool read_some() {
    char bytes[65536];
    const ssize_t count = ::recv(socket_, bytes, sizeof bytes, 0);
    received_.append(bytes, count > 0 ? static_cast<size_t>(count) : 0);
    return count > 0;
  }

  int socket_;
  bool is_connected_ = false;
  std::string received_;
};

// The status of an answer's head, or 0.
inline int status_of(const std::string& head) {
  return head.starts_with("HTTP/1.1 ") ? std::atoi(head.c_str() + 9) : 0;
}

}  // namespace ospnext
