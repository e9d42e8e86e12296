// URLs, and where they may lead.
#include "io/http/web_address.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace ospnext {
namespace {

TEST(Url, IsTakenApart) {
  const auto expect = [](const std::string& url, bool is_secure, const std::string& host, int port,
                         const std::string& target) {
    const auto address = parse_url(url);
    ASSERT_TRUE(address) << url;
    EXPECT_EQ(address->is_secure, is_secure) << url;
    EXPECT_EQ(address->host, host) << url;
    EXPECT_EQ(address->port, port) << url;
    EXPECT_EQ(address->target, target) << url;
    EXPECT_EQ(parse_url((is_secure ? "https://" : "http://") + address->authority() + target)->host,
              host)
        << url;
  };
  const std::string secure = "https://", plain = "http://";
  expect(secure + "a.example", true, "a.example", 443, "/");
  expect(secure + "a.example/x/y?z=1", true, "a.example", 443, "/x/y?z=1");
  expect(plain + "127.0.0.1:8080/", false, "127.0.0.1", 8080, "/");
  expect(plain + "[::1]:81?q", false, "::1", 81, "/?q");
  expect(plain + "my_service:8080", false, "my_service", 8080, "/");
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

TEST(Url, HasAnAuthorityWithoutTheUsualPort) {
  EXPECT_EQ((WebAddress{true, "a.example", 443, "/"}).authority(), "a.example");
  EXPECT_EQ((WebAddress{true, "a.example", 80, "/"}).authority(), "a.example:80");
  EXPECT_EQ((WebAddress{false, "::1", 80, "/"}).authority(), "[::1]");
  EXPECT_EQ((WebAddress{false, "::1", 81, "/"}).authority(), "[::1]:81");
}

}  // namespace
}  // namespace ospnext
