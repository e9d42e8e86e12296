// Targets, ranges, routes and forms, as clients and attackers send them.
#include "server/http/message.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "server/http/multipart.h"
#include "server/http/router.h"

namespace ospnext {
namespace {

TEST(Target, IsSplitAndDecoded) {
  HttpRequest request;
  ASSERT_TRUE(split_target("/v1/videos?after=video_1&limit=5&x=a%20b+c&empty=&flag", request));
  EXPECT_EQ(request.path, "/v1/videos");
  EXPECT_EQ(
      request.query,
      (std::map<std::string, std::string>{
          {"after", "video_1"}, {"limit", "5"}, {"x", "a b c"}, {"empty", ""}, {"flag", ""}}));
}

TEST(Target, ThatIsNoneIsRefused) {
  for (const char* const target : {"", "v1", "http://host/", "*", "/a b", "/a\x7f", "/?a=%4",
                                   "/?a=%zz", "/?a=1&a=2", "/\xc3\xa4"}) {
    HttpRequest request;
    EXPECT_FALSE(split_target(target, request)) << target;
  }
}

void expect_part(const std::string& header, uint64_t begin, uint64_t length) {
  const ByteRange range = parse_range(header, 100);
  EXPECT_EQ(range.kind, ByteRange::Kind::kPart) << header;
  EXPECT_EQ(range.begin, begin) << header;
  EXPECT_EQ(range.length, length) << header;
}

TEST(Range, IsThatOfTheStandard) {
  expect_part("bytes=0-0", 0, 1);
  expect_part("bytes=10-19", 10, 10);
  expect_part("bytes=90-", 90, 10);
  expect_part("bytes=90-500", 90, 10);
  expect_part("bytes=-5", 95, 5);
  expect_part("bytes=-500", 0, 100);
  for (const char* const header : {"bytes=100-", "bytes=500-600", "bytes=-0"}) {
    EXPECT_EQ(parse_range(header, 100).kind, ByteRange::Kind::kOutside) << header;
  }
  for (const char* const header :
       {"", "bytes", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,5-6", "bytes=a-b", "items=0-1",
        "bytes= 0-1", "bytes=99999999999999999999-", "bytes=--5"}) {
    EXPECT_EQ(parse_range(header, 100).kind, ByteRange::Kind::kWhole) << header;
  }
}

TEST(Routes, AreFoundByMethodAndPath) {
  std::vector<Route> routes(3);
  routes[0] = {.method = "GET",
               .pattern = "/v1/videos/{id}",
               .summary = "",
               .takes = "",
               .gives = "",
               .needs_key = true,
               .answer = {}};
  routes[1] = routes[0];
  routes[1].method = "DELETE";
  routes[2] = routes[0];
  routes[2].pattern = "/";
  EXPECT_EQ(find_route(routes, "DELETE", "/v1/videos/video_1").route, &routes[1]);
  EXPECT_EQ(find_route(routes, "HEAD", "/v1/videos/video_1").route, &routes[0]);
  EXPECT_EQ(find_route(routes, "GET", "/v1/videos/video_1").values.at("id"), "video_1");
  EXPECT_EQ(find_route(routes, "PUT", "/v1/videos/video_1").allowed, "GET, DELETE");
  EXPECT_EQ(find_route(routes, "GET", "/").route, &routes[2]);
  for (const char* const path :
       {"", "/v1", "/v1/videos", "/v1/videos/", "/v1/videos/a/", "//", "/v1/videos/a/b"}) {
    EXPECT_EQ(find_route(routes, "GET", path).route, nullptr) << path;
  }
}

std::string form(const std::string& inside) {
  return "--X\r\n" + inside + "\r\n--X--\r\n";
}
const std::string kPrompt = "Content-Disposition: form-data; name=\"prompt\"\r\n\r\n";

TEST(Form, IsReadPartByPart) {
  const auto parts = parse_form(
      "preamble\r\n" +
          form(kPrompt +
               "a red\r\n\r\nball--X\r\n--X\r\ncontent-type: text/plain\r\n"
               "CONTENT-DISPOSITION: form-data; filename=\"a;b.png\"; name=\"in\\\"put\"\r\n\r\n"
               "\r\n--X  \r\n" +
               "Content-Disposition: form-data; name=n\r\n\r\n5"),
      "X");
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[0].name, "prompt");
  EXPECT_EQ(parts[0].value, "a red\r\n\r\nball--X");
  EXPECT_FALSE(parts[0].is_file);
  EXPECT_EQ(parts[1].name, "in\"put");
  EXPECT_EQ(parts[1].value, "");
  EXPECT_TRUE(parts[1].is_file);
  EXPECT_EQ(parts[2].name, "n");
  EXPECT_EQ(parts[2].value, "5");
  EXPECT_TRUE(parse_form("--X--", "X").empty());
}

TEST(Form, ThatIsBrokenIsRefused) {
  std::string many;
  for (int i = 0; i < 65; ++i) {
    many += kPrompt + "a\r\n--X\r\n";
  }
  for (const std::string& body :
       {std::string(), std::string("--Y\r\n"), std::string("--X"), std::string("--X\r\n"),
        "--X\r\n" + kPrompt, "--X\r\n" + kPrompt + "a\r\n--",
        "--X junk\r\n" + kPrompt + "a\r\n--X--", form("\r\na"),
        form("Content-Disposition: form-data\r\n\r\na"),
        form("a: " + std::string(5000, 'x') + "\r\n" + kPrompt + "a"),
        form(many + kPrompt + "a")}) {
    EXPECT_THROW(parse_form(body, "X"), InputError) << body.substr(0, 60);
  }
}

TEST(Form, NamesItsBoundaryInTheContentType) {
  EXPECT_EQ(form_boundary("multipart/form-data; boundary=abc"), "abc");
  EXPECT_EQ(form_boundary("multipart/form-data; charset=utf-8; BOUNDARY=\"a b'(c)\""), "a b'(c)");
  for (const std::string& type :
       {std::string("multipart/form-data"), std::string("multipart/form-data; boundary="),
        std::string("multipart/form-data; boundary=\"a\r\nb\""),
        "multipart/form-data; boundary=" + std::string(71, 'a')}) {
    EXPECT_EQ(form_boundary(type), "") << type;
  }
}

}  // namespace
}  // namespace ospnext
