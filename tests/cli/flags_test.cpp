// Flags from field lists.
#include <gtest/gtest.h>

#include "cli/flags_from_fields.h"
#include "cli/run_ospnext.h"
#include "core/error.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

struct Sample {
  std::string prompt = "none";
  int64_t num_frames = 81;
  double guidance_scale = 5.0;
  bool batch_guidance = false;
  std::vector<int64_t> grid;
  std::vector<std::string> lora;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("prompt", prompt, "text");
    field("num_frames", num_frames, "frames");
    field("guidance_scale", guidance_scale, "scale");
    field("batch_guidance", batch_guidance, "one batch");
    field("grid", grid, "T,H,W");
    field("lora", lora, "files");
  }
};

Sample parsed(const Arguments& arguments) {
  Sample sample;
  EXPECT_TRUE(parse_flags("test", "summary", arguments, sample));
  return sample;
}

std::string refusal(const Arguments& arguments) {
  Sample sample;
  try {
    parse_flags("test", "summary", arguments, sample);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Flags, TakeValuesBehindEqualsOrBlank) {
  EXPECT_EQ(parsed({"--num-frames", "17"}).num_frames, 17);
  EXPECT_EQ(parsed({"--num-frames=17"}).num_frames, 17);
  EXPECT_EQ(parsed({"--guidance-scale=1e-1"}).guidance_scale, 0.1);
  EXPECT_EQ(parsed({}).num_frames, 81);
}

TEST(Flags, TakeWholeNumbersOfUpTo64Bits) {
  EXPECT_EQ(refusal({"--num-frames=18446744073709551615"}).substr(0, 24),
            "command line: num_frames");
  EXPECT_EQ(refusal({"--num-frames=18446744073709551616"}),
            "--num-frames: found \"18446744073709551616\", expected a whole number");
  EXPECT_NE(refusal({"--grid=1,9223372036854775808"}), "");
}

TEST(Flags, TakeEverySeedWhereverThereIsOne) {
  const std::pair<const char*, const char*> commands[] = {{"train", "--output="},
                                                          {"train-vae", "--output="},
                                                          {"eval", "--model=abacus"},
                                                          {"make-random", "--size=abacus"}};
  for (const auto& [command, wrong] : commands) {
    EXPECT_TRUE(refuses(run_here({command, "--seed=-1"}),
                        "seed: found -1, expected 0 to 18446744073709551615"))
        << command;
    const std::string flag = std::string(wrong).substr(2, std::string(wrong).find('=') - 2);
    const Outcome outcome = run_here({command, "--seed=18446744073709551615", wrong});
    EXPECT_TRUE(refuses(outcome, "--" + flag) || refuses(outcome, "abacus")) << outcome.err;
  }
}

TEST(Flags, TakeTextAsItStands) {
  for (const std::string text : {"", "a=b", "[a cat, a dog]", "--num-frames", "-5", "{}", "%%",
                                 "a \"b\" 'c'", "第一\n第二"}) {
    EXPECT_EQ(parsed({"--prompt", text}).prompt, text);
    EXPECT_EQ(parsed({"--prompt=" + text, "--num-frames=5"}).prompt, text);
  }
}

TEST(Flags, SwitchesNeedNoValue) {
  EXPECT_TRUE(parsed({"--batch-guidance"}).batch_guidance);
  EXPECT_TRUE(parsed({"--batch-guidance", "--num-frames", "5"}).batch_guidance);
  EXPECT_FALSE(parsed({"--batch-guidance", "false"}).batch_guidance);
  EXPECT_FALSE(parsed({"--batch-guidance=false"}).batch_guidance);
}

TEST(Flags, ListsComeSeparatedOrRepeated) {
  EXPECT_EQ(parsed({"--grid", "3,5,7"}).grid, (std::vector<int64_t>{3, 5, 7}));
  EXPECT_EQ(parsed({"--lora", "a,b:0.5", "--lora=c"}).lora,
            (std::vector<std::string>{"a,b:0.5", "c"}));
}

TEST(Flags, OverrideTheConfigFile) {
  const TemporaryFolder folder;
  write_file(folder / "c.json", R"({"num-frames": 5, "prompt": "file"})");
  const Sample sample = parsed({"--prompt", "flag", "--config", (folder / "c.json").string()});
  EXPECT_EQ(sample.num_frames, 5);
  EXPECT_EQ(sample.prompt, "flag");
}

TEST(Flags, AreRefusedInOneSentence) {
  EXPECT_EQ(refusal({"--num-frame", "5"}), "unknown flag --num-frame; did you mean --num-frames?");
  EXPECT_EQ(refusal({"--num_frames=5"}), "unknown flag --num_frames; did you mean --num-frames?");
  EXPECT_EQ(refusal({"--qqq"}), "unknown flag --qqq; --help lists those there are");
  EXPECT_EQ(refusal({"word"}), "found \"word\" where a flag was expected");
  EXPECT_EQ(refusal({"--prompt"}), "--prompt: a value is missing");
  EXPECT_EQ(refusal({"--num-frames", "5", "--num-frames=5"}),
            "--num-frames: found it 2 times, expected it once");
  EXPECT_EQ(refusal({"--batch-guidance=maybe"}),
            "--batch-guidance: found \"maybe\", expected true or false");
  for (const char* text : {"", "5x", "5.0", "99999999999999999999", " 5"}) {
    EXPECT_EQ(refusal({"--num-frames", text}),
              "--num-frames: found \"" + std::string(text) + "\", expected a whole number");
  }
  for (const char* text : {"nan", "inf", "-inf", "1e999", "x"}) {
    EXPECT_EQ(refusal({"--guidance-scale", text}),
              "--guidance-scale: found \"" + std::string(text) + "\", expected a finite number");
  }
}

TEST(Flags, ABrokenConfigFileIsRefused) {
  const TemporaryFolder folder;
  const auto with_file = [&](const std::string& text) {
    write_file(folder / "c.json", text);
    return refusal({"--config", (folder / "c.json").string()});
  };
  EXPECT_NE(with_file("{").find("c.json"), std::string::npos);
  EXPECT_NE(with_file("[1]").find("expected flag names and values"), std::string::npos);
  EXPECT_NE(with_file(R"({"num_frames": "5"})").find("num_frames: found \"5\""), std::string::npos);
  EXPECT_NE(with_file(R"({"frames": 5})").find("unknown key \"frames\""), std::string::npos);
  EXPECT_NE(refusal({"--config", (folder / "none.json").string()}), "");
  EXPECT_NE(refusal({"--config", folder.path().string()}), "");
}

TEST(LikelyMeant, IsTheNearestOrNothing) {
  const std::vector<std::string> names = {"--width", "--height", "--steps"};
  EXPECT_EQ(likely_meant("--widht", names), "--width");
  EXPECT_EQ(likely_meant("--stepz", names), "--steps");
  EXPECT_EQ(likely_meant("--colour", names), "");
}

}  // namespace
}  // namespace ospnext
