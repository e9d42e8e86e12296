// Folders of videos and captions in the forms that people have, and what is wrong with them.
#include "data/clip_folder.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class ClipFolder : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text = "video") const {
    fs::create_directories((folder_ / name).parent_path());
    write_file(folder_ / name, text);
  }
  // "NAME: CAPTION" of each video.
  std::vector<std::string> listed(const std::string& name = "") const {
    std::vector<std::string> lines;
    for (const CaptionedVideo& video : list_clip_folder(folder_ / name)) {
      EXPECT_TRUE(fs::exists(video.file)) << video.file;
      lines.push_back(video.name + ": " + video.caption);
    }
    return lines;
  }
  void expect_refusal(const std::string& part, const std::string& name = "") const {
    try {
      listed(name);
      ADD_FAILURE() << "accepted, expected: " << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      EXPECT_NE(std::string(error.what()).find(folder_.path().string()), std::string::npos);
    }
  }

  const TemporaryFolder folder_;
};

using Lines = std::vector<std::string>;

TEST_F(ClipFolder, PairsVideosWithTextsInTheOrderOfNames) {
  write("b.mp4");
  write("b.txt", "\xef\xbb\xbf a dog \r\n");
  write("a.WebM");
  write("a.txt", "two\nlines");
  write("frames/0001.png");
  write("frames.txt", "images");
  write("README.txt", "of no video");
  write("empty_folder/x.txt");
  EXPECT_EQ(listed(), (Lines{"a.WebM: two\nlines", "b.mp4: a dog", "frames: images"}));
}

TEST_F(ClipFolder, ReadsListsInTheirOrder) {
  write("videos/b.mp4");
  write("a.mp4");
  const Lines expected{"videos/b.mp4: a \"cat\", sitting", "a.mp4: a dog"};
  write("metadata.jsonl",
        "{\"file_name\": \"videos/b.mp4\", \"text\": \"a \\\"cat\\\", sitting\"}\n\n"
        "{\"video\": \"./a.mp4\", \"prompt\": \" a dog\", \"fps\": 3}\n");
  EXPECT_EQ(listed(), expected);
  write("musubi.jsonl", "{\"video_path\": \"" + (folder_ / "videos/b.mp4").string() +
                            "\", \"caption\": \"a \\\"cat\\\", sitting\"}\n"
                            "{\"video_path\": \"a.mp4\", \"caption\": \"a dog\"}");
  EXPECT_EQ(listed("musubi.jsonl"), expected);
  write("osp.json",
        R"([{"path": "videos/b.mp4", "cap": "a \"cat\", sitting", "cut": [0, 81]},
            {"path": "a.mp4", "cap": "a dog"}])");
  EXPECT_EQ(listed("osp.json"), expected);
  write("table.csv",
        "video,score,prompt\r\nvideos/b.mp4,1,\"a \"\"cat\"\", sitting\"\r\n\r\na.mp4,2,a dog");
  EXPECT_EQ(listed("table.csv"), expected);
}

TEST_F(ClipFolder, NamesTheFileAndLineOfAMistake) {
  expect_refusal("found no videos");
  write("a.mp4");
  expect_refusal("a.mp4: found no caption, expected it in ");
  write("a.txt", " \n");
  expect_refusal("a.txt: the caption is empty");
  write("a.txt", "\xff\xfe");
  expect_refusal("a.txt: expected UTF-8 text");
  write("a.txt", "fine");
  write("a.webm");
  expect_refusal("has the caption file of ");
  const auto expect_line = [&](const std::string& line, const std::string& part) {
    write("list.jsonl", "{\"file\": \"a.mp4\", \"text\": \"x\"}\n" + line);
    expect_refusal("list.jsonl: line 2: " + part, "list.jsonl");
  };
  expect_line("{\"file\": \"b.mp4\", \"text\": \"x\"}", "there is no file ");
  expect_line("{\"file\": \"./a.mp4\", \"text\": \"x\"}", "\"./a.mp4\" is listed twice");
  expect_line("{\"file\": \"../a.mp4\", \"text\": \"x\"}", "found \"../a.mp4\", expected a file");
  expect_line("{\"file\": \"x/../../a.mp4\", \"text\": \"x\"}", "found \"x/../../a.mp4\"");
  expect_line("{\"file\": \"/etc/passwd\", \"text\": \"x\"}", "found \"/etc/passwd\"");
  expect_line("{\"file\": \".\", \"text\": \"x\"}", "found \".\"");
  expect_line("{\"file\": \"a.webm\", \"text\": \" \"}", "the caption is empty");
  expect_line("{\"file\": \"a.webm\", \"text\": [\"x\"]}", "text: found [\"x\"], expected text");
  expect_line("{\"file\": \"a.webm\"}", "expected one of the keys caption, text, prompt, cap");
  expect_line("[1]", "found [1], expected a JSON object");
  expect_line("{\"file\": ", "");
}

TEST_F(ClipFolder, NamesTheLineOfAMistakeInATable) {
  write("a.mp4");
  const auto expect_table = [&](const std::string& text, const std::string& part) {
    write("t.csv", text);
    expect_refusal("t.csv: line " + part, "t.csv");
  };
  expect_table("video,score\na.mp4,1\n", "1: expected one of the columns caption, text");
  expect_table("video,text\na.mp4,\"two\nlines\"\na.mp4\n", "4: found 1 fields, expected 2");
  expect_table("video,text\na.mp4,\"no end", "2: a quote is not closed");
  expect_table("video,text\na.mp4,\"x\"y\n", "2: found text behind a closing quote");
  write("t.csv", "video,text\n");
  expect_refusal("t.csv: found no clip", "t.csv");
}

TEST_F(ClipFolder, AsksWhichOfTwoListsCounts) {
  write("metadata.jsonl");
  write("metadata.csv");
  expect_refusal("found both metadata.jsonl and metadata.csv");
  expect_refusal("missing.csv: cannot be read", "missing.csv");
  write("notes.txt");
  expect_refusal("expected a list of clips, .jsonl, .json or .csv", "notes.txt");
}

}  // namespace
}  // namespace ospnext
