// Who may use the API, and what every answer has.
#include <regex>

#include "core/base64.h"
#include "core/error.h"
#include "server/api_fixture.h"
#include "server/http/router.h"

namespace ospnext {
namespace {

using nlohmann::json;

TEST_F(Api, WithKeysOnlyTheirOwnersComeIn) {
  use_keys();
  const HttpRequest request = post("/v1/videos", {{"prompt", "a"}});
  expect_error(call(request), 401, "the key is missing");
  EXPECT_EQ(header_of(call(request), "WWW-Authenticate"), "Bearer");
  for (const char* const wrong : {"", "Alpha", "alpha ", "ann", "alphaalpha"}) {
    expect_error(call(with_key(request, wrong)), 401, "not one of this server's");
  }
  EXPECT_EQ(call(with(request, "authorization", "Basic alpha")).status, 401);
  EXPECT_EQ(call(get("/v1/videos?key=alpha")).status, 401);
  EXPECT_EQ(call(with_key(request, "alpha")).status, 200);
  EXPECT_EQ(json_of(call(get("/v1/models")))["error"]["type"], "authentication_error");
  for (const char* const open : {"/", "/page.css", "/page.js", "/health", "/openapi.json"}) {
    EXPECT_EQ(call(get(open)).status, 200) << open;
  }
}

TEST_F(Api, VideosOfOthersAreNotThere) {
  use_keys();
  const std::string id =
      json_of(call(with_key(post("/v1/videos", {{"prompt", "a"}}), "alpha")))["id"];
  const std::string path = "/v1/videos/" + id;
  EXPECT_EQ(call(with_key(get(path), "alpha")).status, 200);
  for (const std::string& target : {path, path + "/content", path + "/events"}) {
    EXPECT_EQ(call(with_key(get(target), "beta")).status, 404) << target;
  }
  EXPECT_EQ(call(with_key(post(path + "/cancel", {}), "beta")).status, 404);
  EXPECT_EQ(call(with_key(post(path + "/remix", {{"prompt", "b"}}), "beta")).status, 404);
  HttpRequest removal = get(path);
  removal.method = "DELETE";
  EXPECT_EQ(call(with_key(removal, "beta")).status, 404);
  EXPECT_TRUE(json_of(call(with_key(get("/v1/videos"), "beta")))["data"].empty());
  EXPECT_EQ(json_of(call(with_key(get(path), "alpha")))["status"], "queued");
}

TEST_F(Api, AKeyMayAskSoOften) {
  settings_.creations_per_minute = 2;
  use_keys();
  const auto ask = [&](const std::string& key) {
    return call(with_key(post("/v1/videos", {{"prompt", "a"}}), key));
  };
  EXPECT_EQ(ask("alpha").status, 200);
  EXPECT_EQ(ask("alpha").status, 200);
  const HttpResponse early = ask("alpha");
  expect_error(early, 429, "too many");
  EXPECT_EQ(header_of(early, "Retry-After"), "30");
  EXPECT_EQ(ask("beta").status, 200);
  now_ms_ += 30'000;
  EXPECT_EQ(ask("alpha").status, 200);
  EXPECT_EQ(ask("alpha").status, 429);
}

TEST_F(Api, PagesOfOtherHostsAreRefusedUnlessNamed) {
  const HttpRequest request = post("/v1/videos", {{"prompt", "a"}});
  EXPECT_EQ(call(with(request, "origin", "http://localhost:8000")).status, 200);
  expect_error(call(with(request, "origin", "https://evil.example")), 403, "other hosts");
  EXPECT_EQ(call(with(request, "origin", "null")).status, 403);
  settings_.origins.emplace_back("https://good.example");
  start();
  const HttpResponse named = call(with(request, "origin", "https://good.example"));
  EXPECT_EQ(named.status, 200);
  EXPECT_EQ(header_of(named, "Access-Control-Allow-Origin"), "https://good.example");
  HttpRequest preflight = with(get("/v1/videos"), "origin", "https://good.example");
  preflight.method = "OPTIONS";
  EXPECT_EQ(call(preflight).status, 204);
  EXPECT_EQ(header_of(call(preflight), "Access-Control-Allow-Methods"), "GET, POST, DELETE");
  preflight.headers["origin"] = "https://evil.example";
  EXPECT_EQ(call(preflight).status, 403);
  EXPECT_EQ(header_of(call(request), "Access-Control-Allow-Origin"), "");
}

TEST_F(Api, OtherNamesOfTheHostAreRefusedWhereTheyAreGiven) {
  settings_.hosts = {"127.0.0.1", "localhost", "[::1]"};
  start();
  for (const char* const host : {"localhost:8000", "127.0.0.1", "[::1]:8000", "[::1]"}) {
    EXPECT_EQ(call(with(get("/health"), "host", host)).status, 200) << host;
  }
  for (const char* const host :
       {"evil.example", "localhost.evil.example:8000", "", "127.0.0.1.evil"}) {
    EXPECT_EQ(call(with(get("/health"), "host", host)).status, 403) << host;
  }
}

TEST_F(Api, UnknownPathsAndMethodsAreNamed) {
  expect_error(call(get("/v1/video")), 404, "nothing at this path");
  expect_error(call(get("/v1/videos/../../etc/passwd")), 404, "nothing at this path");
  HttpRequest request = get("/v1/videos");
  request.method = "PUT";
  const HttpResponse response = call(request);
  expect_error(response, 405, "found PUT, expected POST, GET");
  EXPECT_EQ(header_of(response, "Allow"), "POST, GET");
}

TEST_F(Api, EveryAnswerHasTheHeadersOfSafety) {
  for (const char* const target : {"/", "/v1/videos", "/nowhere", "/metrics"}) {
    const HttpResponse response = call(get(target));
    EXPECT_EQ(header_of(response, "X-Content-Type-Options"), "nosniff") << target;
    EXPECT_EQ(header_of(response, "X-Frame-Options"), "DENY") << target;
    EXPECT_EQ(header_of(response, "Referrer-Policy"), "no-referrer") << target;
  }
  const std::string policy = header_of(call(get("/")), "Content-Security-Policy");
  EXPECT_TRUE(policy.starts_with("default-src 'self';"));
  EXPECT_EQ(policy.find("unsafe"), std::string::npos);
}

TEST_F(Api, SaysNothingOfTheServersFiles) {
  const json loras = json_of(call(get("/v1/loras")));
  EXPECT_EQ(loras["data"], json::array({{{"id", "style"}, {"object", "lora"}}}));
  EXPECT_EQ(json_of(call(get("/v1/models")))["data"][0]["id"], "tiny");
  for (const char* const target : {"/v1/loras", "/v1/models", "/openapi.json", "/metrics"}) {
    EXPECT_EQ(std::get<std::string>(call(get(target)).body).find("/secret"), std::string::npos)
        << target;
  }
}

TEST_F(Api, PromptsAreNotLogged) {
  settings_.logs_requests = true;
  start();
  created({{"prompt", "a secret ball"}});
  EXPECT_NE(log_.find("200 POST /v1/videos"), std::string::npos);
  EXPECT_EQ(log_.find("secret"), std::string::npos);
}

TEST_F(Api, MeasuresWhatPrometheusReads) {
  created({{"prompt", "a"}});
  call(get("/nowhere"));
  const std::string text = std::get<std::string>(call(get("/metrics")).body);
  for (const char* const line :
       {"# TYPE ospnext_jobs gauge\n", "ospnext_jobs{status=\"queued\"} 1\n",
        "ospnext_queue_bound 64\n",
        "ospnext_http_requests_total{route=\"POST /v1/videos\",status=\"200\"} 1\n",
        "ospnext_http_requests_total{route=\"refused\",status=\"404\"} 1\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "\n" << text;
  }
}

TEST_F(Api, DescribesEveryRouteAndField) {
  const json document = json_of(call(get("/openapi.json")));
  size_t operations = 0;
  for (const auto& [path, methods] : document["paths"].items()) {
    operations += methods.size();
  }
  EXPECT_EQ(operations, api_->routes().size());
  const json& fields = document["components"]["schemas"]["VideoRequest"]["properties"];
  EXPECT_EQ(fields["num_frames"]["maximum"], 161);
  EXPECT_EQ(fields["width"]["multipleOf"], 16);
  EXPECT_EQ(fields["width"]["nullable"], true);
  EXPECT_FALSE(fields["prompt"].contains("nullable"));
  EXPECT_EQ(fields.size(), 16u);
  EXPECT_FALSE(fields.contains("webhook_url"));  // no address is allowed
  // The schema of a video has the members that a video has.
  std::vector<std::string> described, found;
  for (const auto& [name, schema] :
       document["components"]["schemas"]["Video"]["properties"].items()) {
    described.push_back(name);
  }
  const json video = created({{"prompt", "a"}});
  for (const auto& [name, value] : video.items()) {
    found.push_back(name);
  }
  EXPECT_EQ(described, found);
}

TEST_F(Api, TheSchemaSaysWhichTextsAreTaken) {
  settings_.limits.width = 128;
  settings_.limits.height = 64;
  start();
  const json fields =
      json_of(call(get("/openapi.json")))["components"]["schemas"]["VideoRequest"]["properties"];
  const auto expect = [&](const char* field, const json& schema, const char* text, bool is_taken) {
    const std::regex pattern(schema["pattern"].get<std::string>());
    EXPECT_EQ(std::regex_match(text, pattern), is_taken) << field << " " << text;
    const int status = call(post("/v1/videos", {{"prompt", "a"}, {field, text}})).status;
    EXPECT_EQ(status, is_taken ? 200 : 400) << field << " " << text;
  };
  for (const char* const text : {"16x16", "128x64", "64x48"}) {
    expect("size", fields["size"], text, true);
  }
  for (const char* const text : {"000", "0x0", "16x", "x16", "016x16", "16X16", "16x16 ", "+16x16",
                                 "24x16", "144x64", "128x80", "-16x16", "16x16x16", ""}) {
    expect("size", fields["size"], text, false);
  }
  const json seconds = fields["seconds"]["anyOf"][1];
  for (const char* const text : {"0", "4", "2.5", "9.9999", "10", "10.0"}) {
    expect("seconds", seconds, text, true);
  }
  for (const char* const text :
       {"", ".5", "5.", "04", "-1", "+4", "1e1", "11", "10.1", "inf", "nan", "0x4", "4 "}) {
    expect("seconds", seconds, text, false);
  }
}

TEST(Keys, AreReadFromAFileOfDigests) {
  const TemporaryFolder folder;
  const auto refusal = [&](const std::string& text) -> std::string {
    write_file(folder / "keys", text);
    try {
      const KeyRing keys(folder / "keys");
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  };
  const std::string digest = sha256_hex("x");
  EXPECT_EQ(digest,
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");  // sha256sum
  EXPECT_EQ(refusal("ann " + digest), "");
  EXPECT_NE(refusal("").find("found no key"), std::string::npos);
  EXPECT_NE(refusal("ann x\n").find("line 1: expected a name and 64"), std::string::npos);
  EXPECT_NE(refusal("ann " + digest + " more").find("line 1"), std::string::npos);
  EXPECT_NE(refusal("ann " + digest + "\nann " + digest).find("line 2: the name is there twice"),
            std::string::npos);
  EXPECT_THROW(KeyRing(folder / "none"), InputError);
  const NewKey key = new_key("carl");
  EXPECT_EQ(refusal(key.line), "");
  EXPECT_EQ(KeyRing(folder / "keys").owner_of("Bearer " + key.key), "carl");
  EXPECT_FALSE(KeyRing(folder / "keys").owner_of("Bearer " + key.key + "x"));
  EXPECT_THROW(new_key("two words"), InputError);
}

// Source of the numbers: RFC 4231, test case 2, and RFC 4648, section 10.
TEST(Digests, AreThoseOfTheStandards) {
  EXPECT_EQ(base64(hmac_sha256("Jefe", "what do ya want for nothing?")),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");  // 5bdcc146bf60754e...
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64(""), "");
}

}  // namespace
}  // namespace ospnext
