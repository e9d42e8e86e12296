// Webhooks: where they may go, what they say, and that they come back after a failure.
#include "server/webhooks.h"

#include <gtest/gtest.h>

#include <mutex>

#include "core/base64.h"
#include "core/error.h"
#include "server/api_fixture.h"
#include "server/digest.h"
#include "server/http/client.h"
#include "server/http/server.h"
#include "server/http/web_address.h"

namespace ospnext {
namespace {

using nlohmann::json;

TEST(Url, IsTakenApart) {
  const auto expect = [](const std::string& url, bool is_secure, const std::string& host, int port,
                         const std::string& target) {
    const auto address = parse_url(url);
    ASSERT_TRUE(address) << url;
    EXPECT_EQ(address->is_secure, is_secure) << url;
    EXPECT_EQ(address->host, host) << url;
    EXPECT_EQ(address->port, port) << url;
    EXPECT_EQ(address->target, target) << url;
  };
  const std::string secure = "https://", plain = "http://";
  expect(secure + "a.example", true, "a.example", 443, "/");
  expect(secure + "a.example/x/y?z=1", true, "a.example", 443, "/x/y?z=1");
  expect(plain + "127.0.0.1:8080/", false, "127.0.0.1", 8080, "/");
  expect(plain + "[::1]:81?q", false, "::1", 81, "/?q");
}

TEST(Url, ThatIsNoneIsRefused) {
  const std::string secure = "https://";
  for (const std::string& url :
       {std::string(), std::string("a.example"), std::string("ftp://a"), secure, secure + "/x",
        secure + "user@a.example", secure + "a.example:0", secure + "a.example:99999",
        secure + "a.example:8x", secure + "a.example/a b", secure + "a.example/#f", secure + "a\nb",
        secure + "[::1", secure + "[::1]x", secure + "a_b!", secure + "a.example\\@evil.example"}) {
    EXPECT_FALSE(parse_url(url)) << url;
  }
}

TEST(Url, MustBeAtAnAllowedAddress) {
  const std::string good = "https://good.example", plain = "http://good.example";
  const auto origins = parse_origins({good}, "`webhooks`");
  EXPECT_TRUE(is_at(origins, good + "/any/path"));
  EXPECT_TRUE(is_at(origins, good + ":443/"));
  for (const std::string& url :
       {plain + "/", good + ".evil.example/", good + ":444/", good + "@evil.example/",
        std::string("https://evil.example/good.example")}) {
    EXPECT_FALSE(is_at(origins, url)) << url;
  }
  EXPECT_THROW(parse_origins({good + "/path"}, "`webhooks`"), InputError);
}

// Keeps what comes, and answers as it is told.
struct Receiver : HttpApplication {
  std::optional<HttpResponse> refuse(const HttpRequest&) override { return std::nullopt; }
  HttpResponse answer(const HttpRequest& request) override {
    const std::lock_guard lock(mutex);
    requests.push_back(request);
    return {status, {}, ""};
  }
  HttpResponse malformed(int, const std::string&) override { return {400, {}, ""}; }
  std::mutex mutex;
  int status = 200;
  std::vector<HttpRequest> requests;
};

class Hook : public Api {
 protected:
  Hook() {
    settings_.limits.webhooks = parse_origins({origin()}, "`webhooks`");
    start();
    write_file(folder_ / "secret", "whsec_" + base64("0123456789abcdef0123456789abcdef") + "\n");
    webhooks_.emplace(*store_, folder_ / "secret",
                      [this](const std::string& line) { log_ += line + "\n"; });
  }
  std::string origin() const { return "http://127.0.0.1:" + std::to_string(server_.port()); }
  std::string cancelled_video(const std::string& path) {
    const std::string id = created({{"prompt", "a"}, {"webhook_url", origin() + path}})["id"];
    call(post("/v1/videos/" + id + "/cancel", {}));
    return id;
  }

  Receiver receiver_;
  HttpServer server_{"127.0.0.1", 0, 1, {}, receiver_};
  std::optional<Webhooks> webhooks_;
};

TEST_F(Hook, TellsOnceAndSigned) {
  const std::string id = cancelled_video("/hook?x=1");
  webhooks_->send_due();
  webhooks_->send_due();
  ASSERT_EQ(receiver_.requests.size(), 1u);
  const HttpRequest& request = receiver_.requests[0];
  EXPECT_EQ(request.method + " " + request.path, "POST /hook");
  EXPECT_EQ(request.header("content-type"), "application/json");
  const json event = json::parse(request.body);
  EXPECT_EQ(event["type"], "video.cancelled");
  EXPECT_EQ(event["data"]["id"], id);
  const std::string signed_text =
      request.header("webhook-id") + "." + request.header("webhook-timestamp") + "." + request.body;
  EXPECT_EQ(request.header("webhook-signature"),
            "v1," + base64(hmac_sha256("0123456789abcdef0123456789abcdef", signed_text)));
  EXPECT_EQ(request.header("webhook-timestamp"), "5000");
}

TEST_F(Hook, ComesBackAfterAFailure) {
  receiver_.status = 500;
  cancelled_video("/");
  webhooks_->send_due();
  webhooks_->send_due();
  EXPECT_EQ(receiver_.requests.size(), 1u);
  receiver_.status = 204;
  now_ms_ += 41'000;
  webhooks_->send_due();
  EXPECT_EQ(receiver_.requests.size(), 2u);
  now_ms_ += 100'000'000;
  webhooks_->send_due();
  EXPECT_EQ(receiver_.requests.size(), 2u);
}

TEST_F(Hook, IsRefusedForOtherAddresses) {
  expect_error(call(post("/v1/videos", {{"prompt", "a"}, {"webhook_url", "http://127.0.0.1:1/"}})),
               400, "does not allow this address", "webhook_url");
}

TEST_F(Hook, NobodyAtTheAddressIsAFailure) {
  EXPECT_THROW(post_json({false, "127.0.0.1", 1, "/"}, {}, "{}", 2), RunError);
  EXPECT_THROW(post_json({true, "127.0.0.1", server_.port(), "/"}, {}, "{}", 2),
               RunError);  // no TLS
}

TEST_F(Hook, SecretsThatAreNoneAreRefused) {
  for (const char* const text : {"", "whsec_", "whsec_!!!!", "secret", "whsec_c2hvcnQ="}) {
    write_file(folder_ / "bad", text);
    EXPECT_THROW(Webhooks(*store_, folder_ / "bad", {}), InputError) << text;
  }
}

}  // namespace
}  // namespace ospnext
