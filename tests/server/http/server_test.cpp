// The socket: what clients may send, and what attackers send.
#include "server/http/server.h"

#include <gtest/gtest.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "core/error.h"
#include "support/http_client.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Answers with what it got.
struct Echo : HttpApplication {
  std::optional<HttpResponse> refuse(const HttpRequest& head) override {
    return head.path == "/forbidden" ? std::optional(HttpResponse{401, {}, "no"}) : std::nullopt;
  }
  HttpResponse answer(const HttpRequest& request) override {
    if (request.path == "/file") {
      return {200, {}, FilePart{std::make_shared<std::ifstream>(file), 1, 200'000}};
    }
    if (request.path == "/events") {
      return {200, {}, EventSource([n = 0]() mutable -> std::optional<std::string> {
                return n++ < 3 ? std::optional("event " + std::to_string(n) + "\n") : std::nullopt;
              })};
    }
    return {200, {}, request.method + " " + request.path + " " + request.body};
  }
  HttpResponse malformed(int status, const std::string& message) override {
    return {status, {}, message};
  }
  std::string file;
};

class Http : public testing::Test {
 protected:
  static HttpLimits limits() {
    HttpLimits limits;
    limits.body_bytes = 100'000;
    limits.connections = 40;
    limits.header_seconds = 1;
    limits.body_seconds = 1;
    return limits;
  }
  // The answer to these bytes and what else comes before the server ends the connection.
  std::string reply(const std::string& bytes) const {
    RawClient client(server_.port());
    client.send(bytes);
    client.finish_sending();
    return client.read_all();
  }
  static std::string posted(const std::string& headers, const std::string& body) {
    return "POST /x HTTP/1.1\r\nHost: a\r\n" + headers + "\r\n" + body;
  }

  Echo echo_;
  HttpServer server_{"127.0.0.1", 0, 2, limits(), echo_};
};

const std::string kGet = "GET /x HTTP/1.1\r\nHost: a\r\n\r\n";

TEST_F(Http, AnswersSeveralRequestsOfAConnection) {
  RawClient client(server_.port());
  client.send(kGet + posted("Content-Length: 5\r\n", "hello") +  // without waiting for the answer
              posted("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
  EXPECT_EQ(client.read_answer().second, "GET /x ");
  EXPECT_EQ(client.read_answer().second, "POST /x hello");
  EXPECT_EQ(client.read_answer().second, "POST /x abcde");
  client.send("HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(client.read_all().ends_with("Content-Length: 8\r\nConnection: close\r\n\r\n"));
}

TEST_F(Http, AsksForABodyThatWaits) {
  RawClient client(server_.port());
  client.send(posted("Content-Length: 5\r\nExpect: 100-continue\r\n", ""));
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("hello");
  EXPECT_EQ(client.read_answer().second, "POST /x hello");
}

TEST_F(Http, RefusesBeforeTheBodyIsSent) {
  const std::string answer =
      reply("POST /forbidden HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\nhalf");
  EXPECT_EQ(status_of(answer), 401);
  EXPECT_NE(answer.find("Connection: close"), std::string::npos);
}

TEST_F(Http, SendsFilesAndEvents) {
  const TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 60'000; ++i) {
    text += std::to_string(i);
  }
  write_file(folder / "file", text);
  echo_.file = folder / "file";
  RawClient client(server_.port());
  client.send("GET /file HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.read_answer().second, text.substr(1, 200'000));
  client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_TRUE(client.read_all().ends_with("\r\n\r\nevent 1\nevent 2\nevent 3\n"));
}

// Requests that two servers may read in different ways, behind which a second one hides.
TEST_F(Http, RefusesSmuggledRequests) {
  const std::string hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string lengths[] = {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                                 "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                                 "Content-Length: 0\r\nContent-Length: 41\r\n",
                                 "Content-Length: 0, 41\r\n",
                                 "Content-Length: +5\r\n",
                                 "Content-Length: 0x5\r\n",
                                 "Content-Length: -1\r\n",
                                 "Content-Length: 5 5\r\n",
                                 "Content-Length: 99999999999999999999999\r\n",
                                 "Content-Length : 0\r\n",
                                 "Transfer-Encoding : chunked\r\n",
                                 "Transfer-Encoding: xchunked\r\n",
                                 "Transfer-Encoding: gzip, chunked\r\n",
                                 "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
                                 "Transfer-Encoding: chunked, chunked\r\n",
                                 "Transfer-Encoding:\x0b"
                                 "chunked\r\n",
                                 "Host: b\r\n",
                                 "X: a\nContent-Length: 41\r\n",
                                 std::string("X: a\0b\r\n", 8),
                                 "no colon\r\n"};
  for (const std::string& headers : lengths) {
    const std::string answer = reply(posted(headers, "0\r\n\r\n" + hidden));
    EXPECT_EQ(status_of(answer) / 100, 4) << headers << answer;
    EXPECT_EQ(answer.find("/hidden"), std::string::npos) << headers;
    EXPECT_EQ(answer.find("HTTP/1.1", 1), std::string::npos) << "two answers: " << headers;
  }
  for (const char* const start :
       {"GET /x HTTP/1.1\r\n\r\n", "GET /x\r\n\r\n", "GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", "GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\r\n\r\n", "GET /\t HTTP/1.1\r\nHost: a\r\n\r\n"}) {
    EXPECT_EQ(status_of(reply(start)), 400) << start;
  }
}

TEST_F(Http, RefusesBrokenChunks) {
  for (const char* const body : {"z\r\nabc\r\n0\r\n\r\n", "-1\r\n\r\n",
                                 "ffffffffffffffffff\r\nabc\r\n", "3\r\nabcd\r\n0\r\n\r\n"}) {
    EXPECT_EQ(status_of(reply(posted("Transfer-Encoding: chunked\r\n", body))) / 100, 4) << body;
  }
}

TEST_F(Http, RefusesWhatIsTooLarge) {
  EXPECT_EQ(
      status_of(reply("GET /" + std::string(20'000, 'a') + " HTTP/1.1\r\nHost: a\r\n\r\n")) / 100,
      4);
  EXPECT_EQ(
      status_of(reply("GET / HTTP/1.1\r\nHost: a\r\nX: " + std::string(20'000, 'a') + "\r\n\r\n")),
      431);
  // A gigabyte is not waited for, whether its length is said or not.
  const auto began = steady_clock::now();
  EXPECT_EQ(status_of(reply(posted("Content-Length: 1000000000\r\n", "a"))), 413);
  RawClient client(server_.port());
  client.send(posted("Transfer-Encoding: chunked\r\n", "40000000\r\n"));
  const std::string megabyte(1 << 20, 'a');
  int megabytes = 0;
  while (megabytes < 1000 && client.send(megabyte)) {
    ++megabytes;
  }
  EXPECT_LT(megabytes, 100);
  EXPECT_LT(steady_clock::now() - began, std::chrono::seconds(5));
  EXPECT_EQ(status_of(reply(kGet)), 200);
}

TEST_F(Http, HalfARequestEndsQuietly) {
  EXPECT_EQ(reply("GET /x HT"), "");
  EXPECT_EQ(reply(posted("Content-Length: 50\r\n", "half")), "");
  EXPECT_EQ(reply(posted("Transfer-Encoding: chunked\r\n", "5\r\nhal")), "");
  EXPECT_EQ(reply(""), "");
  EXPECT_EQ(status_of(reply(kGet)), 200);
}

// Twenty clients that send a byte now and then do not keep others waiting, and do not stay.
TEST_F(Http, SlowClientsAreSentAway) {
  std::vector<std::unique_ptr<RawClient>> slow;
  for (int i = 0; i < 20; ++i) {
    slow.push_back(std::make_unique<RawClient>(server_.port()));
    slow.back()->send(i % 2 == 0 ? "GET /slow" : posted("Content-Length: 500\r\n", "b"));
  }
  const auto began = steady_clock::now();
  EXPECT_EQ(status_of(reply(kGet)), 200);
  EXPECT_LT(steady_clock::now() - began, milliseconds(500));
  std::thread drip([&] {
    for (int i = 0; i < 12; ++i) {
      std::this_thread::sleep_for(milliseconds(100));
      for (const auto& client : slow) {
        client->send("a");
      }
    }
  });
  for (const auto& client : slow) {
    EXPECT_EQ(client->read_all(), "");
  }
  EXPECT_LT(steady_clock::now() - began, milliseconds(3500));
  drip.join();
}

TEST_F(Http, TooManyConnectionsAreTold) {
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < limits().connections; ++i) {
    idle.push_back(std::make_unique<RawClient>(server_.port()));
    idle.back()->send(kGet);
    EXPECT_EQ(status_of(idle.back()->read_answer().first), 200);
  }
  const std::string answer = reply(kGet);
  EXPECT_EQ(status_of(answer), 503);
  EXPECT_NE(answer.find("Retry-After"), std::string::npos);
  idle.clear();
  for (int i = 0; i < 100 && status_of(reply(kGet)) != 200; ++i) {
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_EQ(status_of(reply(kGet)), 200);
}

TEST(HttpServerStart, SaysWhereItCannotListen) {
  Echo echo;
  const auto refusal = [&](const std::string& address, uint16_t port) -> std::string {
    try {
      const HttpServer server(address, port, 1, {}, echo);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(refusal("nowhere", 0).find("`host`: found \"nowhere\""), std::string::npos);
  const HttpServer first("127.0.0.1", 0, 1, {}, echo);
  EXPECT_NE(refusal("127.0.0.1", first.port()).find("Address already in use"), std::string::npos);
}

}  // namespace
}  // namespace ospnext
