// Rewards of other programs: good ones, and all the ways in which they fail.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <thread>

#include "rl/rewards/reward_kinds.h"
#include "rl/rewards/reward_list.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

std::vector<VideoScore> scores_of(const std::string& command, double seconds = 20) {
  const at::Tensor videos = at::arange(2 * 3 * 2 * 2 * 2).view({2, 3, 2, 2, 2}) / 48.0;
  return make_command_reward(command, seconds)->score(videos, {"a \"fox\"", "a\nb"}, {});
}

void expect_error(const std::string& command, const std::string& part, double seconds = 20) {
  for (const VideoScore& score : scores_of(command, seconds)) {
    EXPECT_TRUE(score.parts.empty()) << command;
    EXPECT_NE(score.error.find(part), std::string::npos) << command << ": " << score.error;
    EXPECT_EQ(score.error.find('\n'), std::string::npos) << score.error;
  }
}

TEST(CommandReward, PassesPromptsAndPixelsAndReadsScores) {
  const TemporaryFolder folder;
  const std::string program = (folder / "score.py").string();
  write_file(program, R"(
import json, sys
head = json.loads(sys.stdin.buffer.readline())
pixels = sys.stdin.buffer.read()
n = head["videos"]
each = head["frames"] * head["height"] * head["width"] * 3
assert len(pixels) == n * each and head["prompts"] == ["a \"fox\"", "a\nb"], head
scores = [{"total": sum(pixels[i * each:(i + 1) * each]) / each, "first": pixels[i * each]}
          for i in range(n)]
print(json.dumps({"scores": scores}))
)");
  const auto scores = scores_of("python3 " + program);
  ASSERT_EQ(scores[0].error, "");
  EXPECT_EQ(scores[0].parts.at("first"), 0);
  EXPECT_EQ(scores[1].parts.at("first"), 128);  // floor(24/48·255 + 0.5)
  EXPECT_NEAR(scores[1].parts.at("total"), 255 * 35.5 / 48, 0.5);
}

TEST(CommandReward, TakesNumbersAndErrorsOfSingleVideos) {
  const auto scores =
      scores_of(R"(cat >/dev/null; echo '{"scores": [2.5, {"error": "too dark"}]}')");
  EXPECT_EQ(scores[0].parts.at("total"), 2.5);
  EXPECT_EQ(scores[1].error, "\"too dark\"");
  EXPECT_TRUE(scores[1].parts.empty());
}

TEST(CommandReward, NeedsNobodyToReadItsInput) {
  EXPECT_EQ(scores_of(R"(exec 0<&-; echo '{"scores": [1, 2]}')")[1].parts.at("total"), 2);
}

TEST(CommandReward, GivesTheReasonAndNoScoreWhereAProgramFails) {
  const std::string read = "cat >/dev/null; ";
  expect_error(read + "echo nonsense", "echo nonsense: ");
  expect_error(read + R"(echo '{"scores": [1]}')", "scores: found 1, expected 2");
  expect_error(read + R"(echo '{"scores": [1, NaN]}')", "");
  expect_error(read + R"(echo '{"scores": [1, null]}')",
               "scores[1]: found null, expected a number");
  expect_error(read + R"(echo '{"scores": [1, {"first": 2}]}')", "\"total\" among them");
  expect_error(read + R"(echo '[1, 2]')", "expected {\"scores\": [...]}");
  expect_error("no_such_program_here 2>/dev/null", "found exit status 127, expected 0");
  expect_error("exit 3", "found exit status 3, expected 0");
  expect_error("kill -SEGV $$", "was ended by signal 11");
  expect_error("cat >/dev/null; yes", "bytes of output");
}

TEST(CommandReward, KillsTheProgramAndItsChildrenAtTheEndOfItsTime) {
  const TemporaryFolder folder;
  const std::string pids = (folder / "pids").string();
  const auto start = std::chrono::steady_clock::now();
  expect_error("sleep 300 & echo $! >" + pids + "; sleep 300", "found no answer after 0.5", 0.5);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
  const pid_t child = std::stoi(file_text(pids));
  bool runs = true;  // until its new parent has buried it
  for (int i = 0; i < 200 && runs; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    const std::string state = file_text("/proc/" + std::to_string(child) + "/stat");
    runs = !state.empty() && state.find(") Z") == std::string::npos;
  }
  EXPECT_FALSE(runs);
}

TEST(CommandReward, DoesNotWaitForAChildThatOutlivesItsProgram) {
  const auto start = std::chrono::steady_clock::now();
  const auto scores = scores_of(R"(sleep 300 & echo '{"scores": [1, 2]}')");
  EXPECT_EQ(scores[0].parts.at("total"), 1);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
}

TEST(CommandReward, StopsWhenTheJobIsCancelled) {
  torch::manual_seed(1);
  CancellationToken cancel;
  cancel.cancel();
  const auto reward = make_command_reward("sleep 300", 100);
  EXPECT_THROW(reward->score(at::rand({1, 3, 2, 4, 4}), {""}, cancel), Cancelled);
}

TEST(RewardList, ReadsNamesAndWeights) {
  const auto list = parse_rewards(
      {"world", "motion:-0.5", "command:./a:b.sh", "command:python3 c.py --x 1:2.5"}, {});
  ASSERT_EQ(list.size(), 4U);
  EXPECT_EQ(list[0].weight, 1);
  EXPECT_EQ(list[1].name, "motion");
  EXPECT_EQ(list[1].weight, -0.5);
  EXPECT_EQ(list[2].name, "command:./a:b.sh");
  EXPECT_EQ(list[3].name, "command:python3 c.py --x 1");
  EXPECT_EQ(list[3].weight, 2.5);
}

TEST(RewardList, GivesPartsOfOneReward) {
  const auto list = parse_rewards({"world#all_five:2", "exposure#mean", "world"}, {});
  EXPECT_EQ(list[0].name, "world#all_five");
  EXPECT_EQ(list[0].weight, 2);
  EXPECT_EQ(list[0].part, "all_five");
  EXPECT_EQ(list[1].part, "mean");
  EXPECT_EQ(list[2].part, "total");
  EXPECT_EQ(list[0].reward, list[2].reward);  // a video is measured once
}

TEST(RewardList, RefusesWhatItDoesNotKnow) {
  const auto refused = [](const std::vector<std::string>& texts, const std::string& part) {
    try {
      parse_rewards(texts, {});
      ADD_FAILURE() << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  refused({},
          "`reward`: missing, expected world, motion, exposure, sharpness, videoalign, "
          "command:PROGRAM, score:URL or compute:URL");
  refused({"beauty"}, "`reward`: found \"beauty\", expected world");
  refused({"exposure#beauty"},
          "`reward`: found \"exposure#beauty\", expected one of exposure, exposure#dark, "
          "exposure#bright, exposure#mean");
  refused({"sharpness#"}, "`reward`: found \"sharpness#\", expected one of sharpness");
  refused({"command:"}, "`reward`: found \"command:\"");
  refused({"motion:x"}, "`reward`: found \"motion:x\"");
  refused({"motion:0"}, "`reward`: weight of motion: found 0");
  refused({"motion:nan"}, "`reward`: weight of motion: found nan");
  refused({"motion:1", "motion:2"}, "`reward`: found motion twice");
}

}  // namespace
}  // namespace ospnext
