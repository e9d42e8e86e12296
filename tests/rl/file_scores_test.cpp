// Scoring video files: which are read, what is written, what is refused.
#include "rl/file_scores.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/video.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

class FileScoring : public testing::Test {
 protected:
  // Grey frames, each brighter than the one before by `step` / 255.
  void write(const std::string& name, int64_t step, int64_t frames = 3) const {
    if (name.find('%') != name.npos) {
      std::filesystem::create_directories((folder_ / name).parent_path());
    }
    const auto writer =
        open_video(folder_ / name, {.width = 16, .height = 32, .fps = 8, .comment = ""});
    const at::Tensor grey = 20 + step * at::arange(frames).view({-1, 1, 1, 1});
    writer->write(grey.expand({frames, 32, 16, 3}).to(at::kByte));
    writer->finish();
    writer->commit();
  }
  FileScoringConfig config() const {
    FileScoringConfig config;
    config.reward = {"motion", "exposure:0.5"};
    config.videos = {folder_.path().string()};
    config.prompts = folder_ / "prompts.txt";
    return config;
  }
  static FileScores score(const FileScoringConfig& config) {
    Progress silent(nullptr, false);
    return score_files(config, silent, {});
  }
  static std::string refusal(const FileScoringConfig& config) {
    try {
      score(config);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }

  const TemporaryFolder folder_;
};

TEST_F(FileScoring, ReadsAllFormatsInTheOrderOfTheirNumbers) {
  write("2.y4m", 20);
  write("10.mp4", 40);
  write("1/%03d.png", 10);
  write_file(folder_ / "prompts.txt", "one\ntwo\nten\n");
  const FileScores scores = score(config());
  ASSERT_EQ(scores.files.size(), 3U);
  EXPECT_EQ(scores.rewards, (std::vector<std::string>{"motion", "exposure"}));
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(scores.files[i].prompt, (std::vector{"one", "two", "ten"})[i]);
    const double expected = std::vector{10, 20, 40}[i] / 255.0;
    EXPECT_NEAR(scores.files[i].scores[0].parts.at("total"), expected, i == 0 ? 1e-6 : 0.01);
  }
}

TEST_F(FileScoring, TakesCaptionsBesideVideosWhereThereAreNoPrompts) {
  write("a.y4m", 10);
  write_file(folder_ / "a.txt", "a grey wall\n");
  FileScoringConfig only = config();
  only.prompts.clear();
  only.num_frames = 2;
  EXPECT_EQ(score(only).files.at(0).prompt, "a grey wall");
}

TEST_F(FileScoring, WritesJsonCsvAndATableAlsoOfVideosWithoutScores) {
  const FileScores scores{
      {"motion", "command:x"},
      {{"a.mp4", "a \"red\", ball", {{{{"total", 0.25}, {"frozen", 0}}, ""}, {{}, "too dark"}}},
       {"b.mp4", "b", {{{{"total", 0.75}, {"frozen", 0.5}}, ""}, {{{"total", -1}}, ""}}}}};
  EXPECT_EQ(scores_to_json(scores).dump(),
            R"({"scores":[{"video":"a.mp4","prompt":"a \"red\", ball",)"
            R"("motion":{"frozen":0.0,"total":0.25},"command:x":{"error":"too dark"}},)"
            R"({"video":"b.mp4","prompt":"b","motion":{"frozen":0.5,"total":0.75},)"
            R"("command:x":{"total":-1.0}}]})");
  EXPECT_EQ(scores_to_csv(scores),
            "video,prompt,motion.frozen,motion.total,command:x.total,error\r\n"
            "a.mp4,\"a \"\"red\"\", ball\",0.0,0.25,,command:x: too dark\r\n"
            "b.mp4,b,0.5,0.75,-1.0,\r\n");
  EXPECT_EQ(score_table(scores),
            "video  motion  command:x\n"
            "a.mp4  0.2500          -\n"
            "b.mp4  0.7500    -1.0000\n"
            "mean   0.5000    -1.0000\n");
}

TEST_F(FileScoring, RefusesWhatItCannotScore) {
  const auto expect = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  FileScoringConfig wrong = config();
  write_file(folder_ / "prompts.txt", "one\n");
  expect(refusal(wrong), "found no videos, expected files such as NAME.mp4");
  write("1.y4m", 10);
  write("2.y4m", 10, 1);
  expect(refusal(wrong), "`prompts`: found 1 in " + wrong.prompts + ", expected 2");
  wrong.videos.clear();
  expect(refusal(wrong), "`videos`: missing");
  wrong.videos = {"/none"};
  expect(refusal(wrong), "/none: there is no such file or folder");
  wrong.videos = {folder_ / "1.y4m", folder_ / "2.y4m"};
  wrong.prompts.clear();
  expect(refusal(wrong), "`prompts`: missing");
  wrong = config();
  wrong.fps = -1;
  expect(refusal(wrong), "`fps`: found -1");
  wrong = config();
  wrong.videos = {folder_ / "2.y4m"};
  wrong.reward = {"motion"};
  EXPECT_THROW(score(wrong), RunError);  // one frame has no motion
  write_file(folder_ / "1.y4m", "YUV4MPEG2 W16");
  wrong.videos = {folder_ / "1.y4m"};
  expect(refusal(wrong), "1.y4m");
}

}  // namespace
}  // namespace ospnext
