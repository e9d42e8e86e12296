// Rewards over HTTP: what services are asked, and all the ways in which they fail.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base64.h"
#include "io/image.h"
#include "io/video_reader.h"
#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/reward_list.h"
#include "support/canned_server.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using nlohmann::json;
using Requests = std::vector<CannedServer::Request>;
using Clock = std::chrono::steady_clock;

constexpr double kPatience = 20;  // seconds

// Two clips in which a soft light moves, of different colours: [2, 3, 5, 32, 48].
at::Tensor clips() {
  const at::Tensor x = at::arange(48).view({1, 1, 1, 48}) / 48.0;
  const at::Tensor y = at::arange(32).view({1, 1, 32, 1}) / 32.0;
  const at::Tensor time = at::arange(5).view({1, 5, 1, 1}) / 10.0;
  const at::Tensor light = 0.5 + 0.4 * at::sin(6 * (x - time)) * at::cos(3 * y);  // [1, 5, 32, 48]
  const at::Tensor grey = light.expand({3, 5, 32, 48});
  return at::stack({grey, 0.5 * grey});
}

std::vector<VideoScore> ask(const Reward& reward) {
  return reward.score(clips(), {"a \"fox\"", "schön"}, {});
}

std::unique_ptr<Reward> score_reward(const std::string& url, const ServiceReward& asked = {"r", ""},
                                     double seconds = kPatience) {
  return make_score_reward(url, asked, seconds, 16);
}

std::string decoded(const std::string& text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char digit : text.substr(0, text.find('='))) {
    const char* const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bits = bits << 6 | static_cast<uint32_t>(std::strchr(digits, digit) - digits);
    count += 6;
    if (count >= 8) {
      count -= 8;
      bytes += static_cast<char>(bits >> count);
    }
  }
  return bytes;
}

TEST(Base64, IsThatOfTheRfc) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(ScoreService, GetsPromptsAndVideosAndGivesItsNumbers) {
  const CannedServer server([](const Requests&) {
    return http_answer(R"({"results": [{"r": {"VQ": 1, "MQ": 2.5, "Overall": 3.5}}, {}],
                           "errors": [{}, {"r": "out of memory"}]})");
  });
  const auto scores = ask(*score_reward(server.url() + "/models/"));
  EXPECT_EQ(scores[0].parts, (std::map<std::string, double>{
                                 {"VQ", 1}, {"MQ", 2.5}, {"Overall", 3.5}, {"total", 3.5}}));
  EXPECT_EQ(scores[1].error, "\"out of memory\"");
  ASSERT_EQ(server.requests().size(), 1U);
  EXPECT_EQ(server.requests()[0].line, "POST /models/score HTTP/1.1");
  const json asked = json::parse(server.requests()[0].body).at("requests");
  ASSERT_EQ(asked.size(), 2U);
  const TemporaryFolder folder;
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(asked[i].at("required_rewards"), json({"r"}));
    EXPECT_EQ(asked[i].at("metadata"), nullptr);
    ASSERT_EQ(asked[i].at("history").size(), 1U);
    const json turn = asked[i].at("history")[0];
    EXPECT_EQ(turn.at("text"), i == 0 ? "a \"fox\"" : "schön");
    write_file(folder / "video.mp4", decoded(turn.at("video_b64")));
    const at::Tensor frames = read_frames(folder / "video.mp4", {}, 100);  // [5, 32, 48, 3]
    const at::Tensor sent = clips()[static_cast<int64_t>(i)].permute({1, 2, 3, 0});
    ASSERT_EQ(frames.sizes(), sent.sizes());
    const double error = (frames / 255.0 - sent).square().mean().item<double>();
    EXPECT_GT(-10 * std::log10(error), 35) << "dB";
  }
}

TEST(ScoreService, TakesThePartThatIsAskedFor) {
  const std::string numbers =
      http_answer(R"({"results": [{"r": {"VQ": 1, "MQ": 2}}, {"r": {"VQ": 3, "MQ": 4}}]})");
  const CannedServer server([&](const Requests&) { return numbers; });
  EXPECT_EQ(ask(*score_reward(server.url(), {"r", "MQ"}))[1].parts.at("total"), 4);
  EXPECT_NE(ask(*score_reward(server.url(), {"r", "TA"}))[1].error.find("expected \"TA\""),
            std::string::npos);
  EXPECT_NE(ask(*score_reward(server.url()))[1].error.find("expected one of them"),
            std::string::npos);
}

TEST(ScoreService, AsksForTheNameOfItsOnlyReward) {
  const CannedServer one([](const Requests& requests) {
    return requests.back().line.starts_with("GET /rewards ")
               ? http_answer(R"({"rewards": ["x"]})")
               : http_answer(R"({"results": [{"x": {"a": 1}}, {"x": {"a": 2}}], "errors": []})");
  });
  EXPECT_EQ(ask(*score_reward(one.url(), {}))[1].parts.at("total"), 2);
  const CannedServer two([](const Requests&) { return http_answer(R"({"rewards": ["x", "y"]})"); });
  EXPECT_EQ(ask(*score_reward(two.url(), {}))[0].error,
            R"(it has the rewards ["x","y"], expected one of them behind the URL, as #NAME)");
}

TEST(ComputeService, GetsPromptsAndFramesAndGivesItsNumbers) {
  const CannedServer server(
      [](const Requests&) { return http_answer(R"({"rewards": [0.5, null]})"); });
  const auto scores = ask(*make_compute_reward(server.url(), kPatience));
  EXPECT_EQ(scores[0].parts, (std::map<std::string, double>{{"total", 0.5}}));
  EXPECT_EQ(scores[1].error, "its answer: rewards[1]: found null, expected a number");
  ASSERT_EQ(server.requests().size(), 1U);
  EXPECT_EQ(server.requests()[0].line, "POST /compute HTTP/1.1");
  const json asked = json::parse(server.requests()[0].body);
  EXPECT_EQ(asked.at("prompt"), json({"a \"fox\"", "schön"}));
  EXPECT_EQ(asked.at("image"), nullptr);
  ASSERT_EQ(asked.at("video").size(), 2U);
  ASSERT_EQ(asked.at("video")[1].size(), 5U);
  const TemporaryFolder folder;
  write_file(folder / "frame.png", decoded(asked.at("video")[1][3]));
  const at::Tensor sent = clips()[1].select(1, 3).permute({1, 2, 0});  // [32, 48, 3]
  EXPECT_LE((read_png(folder / "frame.png") / 255.0 - sent).abs().max().item<double>(),
            0.5 / 255 + 1e-6);
}

// What a server answers, and the error that each video has then. Both kinds are asked.
void expect_error(const CannedServer::Answer& answer, const std::string& part, size_t tries = 1,
                  double seconds = kPatience) {
  const auto kinds = {
      +[](const std::string& url, double s) {
        return score_reward(url, {"r", ""}, s);
      },
      +[](const std::string& url, double s) { return make_compute_reward(url, s); }};
  for (const auto& make : kinds) {
    const CannedServer server(answer);
    for (const VideoScore& score : ask(*make(server.url(), seconds))) {
      EXPECT_TRUE(score.parts.empty());
      EXPECT_NE(score.error.find(part), std::string::npos) << score.error;
      EXPECT_EQ(score.error.find('\n'), std::string::npos) << score.error;
    }
    EXPECT_EQ(server.requests().size(), tries) << part;
  }
}

CannedServer::Answer always(const std::string& answer) {
  return [answer](const Requests&) { return answer; };
}

TEST(ServiceRewards, GiveTheReasonAndNoScoreForWrongAnswers) {
  expect_error(always(http_answer("<html>nginx</html>")), "its answer: ");
  expect_error(always(http_answer(R"({"results": [{}], "rewards": [1]})")), "found 1, expected 2");
  expect_error(always(http_answer(R"({"results": [{"r": {"a": NaN}}, {"r": {"a": NaN}}],
                                      "rewards": [NaN, NaN]})")),
               "its answer: ");
  expect_error(always(http_answer(R"({"results": [{"r": {"a": 1e999}}, {"r": {"a": "1"}}],
                                      "rewards": [1e999, "1"]})")),
               "");
  expect_error(always(http_answer(R"({"results": [{"r": {}}, 3], "rewards": [{}, []]})")),
               "its answer: re");
  expect_error(always(http_answer("[1, 2]")), "found [1,2], expected {");
  expect_error(always(http_answer(R"({"detail": "unknown reward: r"})", "400 Bad Request")),
               "found status 400, expected 200: \"{\"detail\": \"unknown reward: r\"}\"");
  expect_error(always("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" +
                      std::string((16 << 20) + 100, ' ')),
               "found an answer of more than 16777216 bytes");
}

TEST(ServiceRewards, AskABusyOrLostServiceAgain) {
  const std::string good =
      http_answer(R"({"results": [{"r": {"a": 1}}, {"r": {"a": 2}}], "rewards": [1, 2]})");
  const std::vector<std::string> bad = {
      http_answer("{}", "503 Service Unavailable"), http_answer("{}", "500 Internal Server Error"),
      "",                                                      // gone before the answer
      "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"re",  // and within it
  };
  for (const std::string& first : bad) {
    const CannedServer server(
        [&](const Requests& requests) { return requests.size() < 2 ? first : good; });
    const auto scores = ask(*make_compute_reward(server.url(), kPatience));
    EXPECT_EQ(scores[1].error, "") << first;
    EXPECT_EQ(scores[1].parts.at("total"), 2) << first;
  }
  expect_error(always(http_answer(R"({"detail": "bug"})", "500 Internal Server Error")),
               "found status 500, expected 200", /*tries=*/3);
  expect_error(always(""), "the connection was lost before the whole answer had come", /*tries=*/2,
               /*seconds=*/0.6);
}

TEST(ServiceRewards, GiveTheReasonWhereNobodyListens) {
  std::string url;
  {
    const CannedServer server(always(""));
    url = server.url();
  }
  const auto start = Clock::now();
  EXPECT_EQ(ask(*score_reward(url, {"r", ""}, 1))[1].error,
            "cannot be reached: Connection refused");
  EXPECT_NE(ask(*make_compute_reward("http://no-such-host.invalid", 1))[0].error.find(
                "cannot be reached: Host not found"),
            std::string::npos);
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(15));
}

TEST(ServiceRewards, WaitForASlowServiceNoLongerThanTheirTimeOrTheJob) {
  const CannedServer slow([](const Requests& requests) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1200));
    return requests.empty() ? "" : http_answer("{}");
  });
  const auto start = Clock::now();
  EXPECT_EQ(ask(*make_compute_reward(slow.url(), 0.5))[0].error,
            "found no answer after 0.5 seconds");
  EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(1100));
  CancellationToken cancel;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    cancel.cancel();
  });
  const auto reward = make_compute_reward(slow.url(), kPatience);
  EXPECT_THROW(reward->score(clips(), {"", ""}, cancel), Cancelled);
  later.join();
}

TEST(RewardList, TellsWeightsFromPorts) {
  const RewardSettings settings{.reward_seconds = 1, .videoalign_url = "http://[::1]:80"};
  const auto list =
      parse_rewards({"score:http://host:8080#videoalign.MQ:0.5", "compute:http://host:8000",
                     "compute:http://host:8000/a:2", "score:https://[::1]:8000#x",
                     "score:http://host:80:3", "score:http://[::1]:4", "videoalign:1.0"},
                    settings);
  const std::vector<std::pair<std::string, double>> expected = {
      {"score:http://host:8080#videoalign.MQ", 0.5},
      {"compute:http://host:8000", 1},
      {"compute:http://host:8000/a", 2},
      {"score:https://[::1]:8000#x", 1},
      {"score:http://host:80", 3},
      {"score:http://[::1]:4", 1},
      {"videoalign", 1}};
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(list[i].name, expected[i].first);
    EXPECT_EQ(list[i].weight, expected[i].second);
  }
}

TEST(RewardList, RefusesOtherUrls) {
  const auto refused = [](const std::string& text, const std::string& part) {
    try {
      parse_rewards({text}, {});
      ADD_FAILURE() << text;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  for (const char* url :
       {"localhost", "ftp://host", "http://", "http://:80", "http://a b", "http://host:port",
        "http://host:123456", "http://host:99999", "http://host?x=1"}) {
    refused(std::string("compute:") + url, "`reward` compute: found \"" + std::string(url));
    refused(std::string("score:") + url + "#r", "`reward` score: found \"" + std::string(url));
  }
  refused("score:http://host#", "expected score:URL#NAME.PART");
  refused("score:http://host#x.", "expected score:URL#NAME.PART");
  refused("videoalign", "`videoalign_url`: missing");
}

}  // namespace
}  // namespace ospnext
