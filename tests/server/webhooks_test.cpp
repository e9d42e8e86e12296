// Webhooks: where they may go, what they say, and that they come back after a failure.
#include "server/webhooks.h"

#include <gtest/gtest.h>

#include <mutex>

#include "core/base64.h"
#include "core/error.h"
#include "io/http/web_address.h"
#include "server/api_fixture.h"
#include "server/digest.h"
#include "server/http/server.h"

namespace ospnext {
namespace {

using nlohmann::json;

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

TEST_F(Hook, SecretsThatAreNoneAreRefused) {
  for (const char* const text : {"", "whsec_", "whsec_!!!!", "secret", "whsec_c2hvcnQ="}) {
    write_file(folder_ / "bad", text);
    EXPECT_THROW(Webhooks(*store_, folder_ / "bad", {}), InputError) << text;
  }
}

}  // namespace
}  // namespace ospnext
