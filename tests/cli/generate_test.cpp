// ospnext generate on a tiny random model, from the command line to the files.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/generate_fixture.h"
#include "engine/generate_config.h"
#include "io/weights.h"
#include "schedulers/flow_matching.h"
#include "support/compare.h"

namespace ospnext {
namespace {

using nlohmann::json;
TEST_F(Generate, WritesAVideoAndWhatMadeIt) {
  const Outcome outcome =
      run_binary(with_model({"--prompt", "a red ball", "--seed=7", "--output", path("clip.y4m")}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out, path("clip.y4m") + "\n");
  for (const char* words : {"denoise", "decode", "MiB of host memory"}) {
    EXPECT_NE(outcome.err.find(words), std::string::npos) << words;
  }
  EXPECT_EQ(folder_.names(), (Names{"clip.json", "clip.y4m"}));
  EXPECT_EQ(text("clip.y4m").substr(0, 25), "YUV4MPEG2 W48 H32 F8:1 Ip");
  const json record = json::parse(text("clip.json"));
  EXPECT_EQ(record["config"]["seed"], 7);
  EXPECT_EQ(record["config"]["prompt"], "a red ball");
  EXPECT_EQ(record["config"]["steps"], 3);
  EXPECT_EQ(record["config"]["device"].get<std::string>().substr(0, 3), "cpu");
  EXPECT_GT(record["run"]["peak_host_bytes"].get<int64_t>(), 1 << 20);
  EXPECT_GE(record["run"]["stage_seconds"].size(), 4u);
}

TEST_F(Generate, ItsRecordMakesTheSameVideoAgain) {
  make({"--prompt", "a red ball", "--num-videos=2", "--seed=7", "--output", path("a.y4m")});
  EXPECT_EQ(folder_.names(), (Names{"a-0.json", "a-0.y4m", "a-1.json", "a-1.y4m"}));
  make({"--config", path("a-1.json"), "--output", path("b.y4m")});
  EXPECT_EQ(text("b.y4m"), text("a-1.y4m"));
  EXPECT_NE(text("a-0.y4m"), text("a-1.y4m"));
  make({"--prompt", "a red ball", "--seed=8", "--output", path("c.y4m")});
  EXPECT_EQ(text("c.y4m"), text("a-1.y4m"));
}

TEST_F(Generate, WrittenLevelsAreKeptInTheRecord) {
  const auto made = [&](Arguments arguments) {
    arguments.insert(arguments.end(), {"--output", path("a.y4m")});
    make(arguments);
    return std::pair{text("a.y4m"), json::parse(text("a.json"))["config"]};
  };
  const auto [video, config] = made({"--prompt=a", "--scheduler=unipc", "--sigmas=0.9,0.4"});
  EXPECT_EQ(config["sigmas"], json({0.9, 0.4}));
  EXPECT_EQ(config["steps"], 2);
  std::filesystem::copy(path("a.json"), path("record.json"));
  EXPECT_EQ(made({"--config", path("record.json")}).first, video);
  const auto [other, other_config] = made({"--config", path("record.json"), "--steps=3"});
  EXPECT_NE(other, video);  // --steps on the command line overrides levels of the file
  EXPECT_EQ(other_config["sigmas"], json::array());
  EXPECT_EQ(other_config["steps"], 3);
}

TEST_F(Generate, TilesAreKeptInTheRecord) {
  make({"--prompt=a", "--output", path("a.y4m")});
  // The value that "auto" resolved to.
  EXPECT_EQ(json::parse(text("a.json"))["config"]["vae_tile"], "none");
  make({"--prompt=a", "--vae-tile=32,16", "--output", path("b.y4m")});
  EXPECT_EQ(json::parse(text("b.json"))["config"]["vae_tile"], "32,16");
  EXPECT_NE(text("a.y4m"), text("b.y4m"));
  make({"--config", path("b.json"), "--output", path("c.y4m")});
  EXPECT_EQ(text("c.y4m"), text("b.y4m"));
}

TEST_F(Generate, OffloadedWeightsMakeTheSameVideo) {
  for (const char* precision : {"--precision=bf16", "--precision=hif8-simulated"}) {
    make({"--prompt=a", precision, "--output", path("a.y4m")});
    make({"--prompt=a", precision, "--offload", "--output", path("b.y4m")});
    EXPECT_EQ(text("b.y4m"), text("a.y4m"));
  }
  // The video is the same, so its record does not say it.
  EXPECT_EQ(json::parse(text("b.json"))["config"]["offload"], false);
}

TEST_F(Generate, TakesPromptsFromAFile) {
  write_file(folder_ / "p.txt", "a red ball\na blue cube\n");
  make({"--prompts", path("p.txt"), "--seed=7", "--output", path("%02d.png"), "--num-frames=1"});
  EXPECT_EQ(folder_.names(),
            (Names{"00-0.png", "00-1.png", "p.txt", "video-0.json", "video-1.json"}));
  EXPECT_EQ(json::parse(text("video-1.json"))["config"]["prompt"], "a blue cube");
}

TEST_F(Generate, SavesAndTakesTensors) {
  make({"--prompt", "a red ball", "--seed=7", "--output", path("a.y4m"), "--save-latent",
        path("latent"), "--save-video-tensor", path("video")});
  const at::Tensor latent = read_tensors(path("latent")).at("latent");
  EXPECT_EQ(latent.sizes(), (at::IntArrayRef{1, 16, 2, 4, 6}));
  EXPECT_EQ(read_tensors(path("video")).at("video").sizes(), (at::IntArrayRef{1, 3, 5, 32, 48}));
  save_safetensors(path("noise"), {{"latent", initial_noise(7, 16, 2, 4, 6).unsqueeze(0)}});
  make({"--prompt", "a red ball", "--seed=99", "--output", path("b.y4m"), "--initial-noise",
        path("noise")});
  EXPECT_EQ(text("a.y4m"), text("b.y4m"));
}

#ifdef OSPNEXT_FFMPEG
TEST_F(Generate, WritesMp4WithItsConfiguration) {
  make({"--prompt", "a red ball", "--output", path("clip.mp4")});
  EXPECT_EQ(folder_.names(), (Names{"clip.json", "clip.mp4"}));
  EXPECT_NE(text("clip.mp4").find("\"prompt\":\"a red ball\""), std::string::npos);
}
#endif

TEST_F(Generate, RefusesBadFlags) {
  const std::string out = path("a.y4m");
  expect_refusal({"--output", out}, "--prompt: missing");
  expect_refusal({"--prompt", "a", "--output", out, "--widht", "48"}, "did you mean --width?");
  expect_refusal({"--prompt", "a", "--output", out, "--width", "50"}, "the nearest is 48 or 64");
  expect_refusal({"--prompt", "a", "--output", out, "--height=-16"}, "--height: found -16");
  expect_refusal({"--prompt", "a", "--output", out, "--num-frames", "8"}, "the nearest is 5 or 9");
  expect_refusal({"--prompt", "a", "--output", out, "--steps", "0"}, "--steps: found 0");
  expect_refusal({"--prompt", "a", "--output", out, "--fps", "nan"}, "--fps: found \"nan\"");
  expect_refusal({"--prompt", "a", "--output", out, "--guidance-scale=-3"},
                 "--guidance-scale: found -3");
  expect_refusal({"--prompt", "a", "--output", out, "--shift", "0"}, "--shift: found 0");
  expect_refusal({"--prompt", "a", "--output", out, "--seed", "-2"}, "--seed: found -2");
  expect_refusal({"--prompt", "a", "--output", out, "--seed=18446744073709551616"},
                 "--seed: found \"18446744073709551616\"");
  expect_refusal({"--prompt", "a", "--output", out, "--seed=-1", "--skip-existing"},
                 "--skip-existing: found it with --seed -1");
  expect_refusal({"--prompt", "a", "--output", out, "--num-videos", "0"}, "--num-videos: found 0");
  expect_refusal({"--prompt", "a", "--output", out, "--scheduler", "magic"},
                 "expected one of: euler");
  expect_refusal({"--prompt", "a", "--output", out, "--sigmas=1,0.5", "--shift=3"}, "found both");
  expect_refusal({"--prompt", "a", "--output", out, "--sigmas=0.5,1"}, "expected falling ones");
  expect_refusal({"--prompt", "a", "--output", out, "--vae-tile=30,20"}, "multiples of 8");
  expect_refusal({"--prompt", "a", "--prompts", "b", "--output", out}, "found both");
  expect_refusal({"--prompt", "\xc3", "--output", out}, "--prompt: expected UTF-8");
  expect_refusal({"--prompt", "a", "--output", path("a.avi")}, "a.avi");
  expect_refusal({"--prompt", "a", "--output", path("no/a.y4m")}, "there is no folder");
  expect_refusal({"--prompt", "a", "--output", out, "--save-latent", path("no/l")},
                 "--save-latent");
  expect_refusal({"--prompt", "a", "--output", out, "--initial-noise", path("none")}, "none");
}

TEST(GenerateWithoutAModel, ShowsTheCommandThatUsesTheShippedOne) {
  for (const Arguments& flags : std::vector<Arguments>{{}, {"--prompt", "a"}}) {
    Arguments arguments = {"generate"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    EXPECT_TRUE(refuses(run_here(arguments), "ospnext generate --model models/tiny --prompt"));
  }
}

TEST_F(Generate, RefusesNoiseThatDoesNotFit) {
  save_safetensors(path("noise"), {{"latent", torch::zeros({1, 16, 2, 4, 4})}});
  expect_refusal({"--prompt", "a", "--output", path("a.y4m"), "--initial-noise", path("noise")},
                 "expected [1,16,2,4,6]");
}

TEST_F(Generate, RefusesBrokenModels) {
  Transformer transformer(tiny_transformer_config());
  const auto refused = [&](const std::string& message, const auto& change) {
    auto weights = random_weights(*transformer, 1);
    change(weights);
    save_safetensors(path("t.safetensors"), weights);
    expect_refusal(
        {"--prompt", "a", "--output", path("a.y4m"), "--transformer", path("t.safetensors")},
        message);
  };
  using Weights = std::map<std::string, at::Tensor>;
  refused("blocks.1.ffn.2.bias", [](Weights& w) { w.erase("blocks.1.ffn.2.bias"); });
  refused("blocks.1.ffn.2.bias", [](Weights& w) { w["blocks.1.ffn.2.bias"] = torch::zeros({3}); });
  refused("blocks.0.norm3.weight", [](Weights& w) { w["blocks.0.norm3.weight"][5] = NAN; });
  refused("head.head.weight", [](Weights& w) { w["head.head.weight"][5][1] = INFINITY; });
  refused("image-to-video", [](Weights& w) { w["img_emb.proj.0.bias"] = torch::zeros({128}); });
  expect_refusal({"--prompt", "a", "--output", path("a.y4m"), "--transformer", path("none")},
                 "none");
  write_file(folder_ / "t.safetensors", "garbage");
  expect_refusal({"--prompt", "a", "--output", path("a.y4m"), "--vae", path("t.safetensors")},
                 "t.safetensors");
  expect_refusal({"--prompt", "a", "--output", path("a.y4m"), "--vae", part("transformer")},
                 part("transformer"));
}

TEST_F(Generate, NamesATensorThatBelongsToNothing) {
  Transformer transformer(tiny_transformer_config());
  auto weights = random_weights(*transformer, 1);
  weights["extra.weight"] = torch::zeros({3});
  save_safetensors(path("t.safetensors"), weights);
  const Outcome outcome =
      run_here(with_model({"--prompt", "a", "--output", path("a.y4m"), "--num-frames=1",
                           "--transformer", path("t.safetensors")}));
  if (outcome.status == 0) {
    EXPECT_NE(outcome.err.find("warning"), std::string::npos);
  } else {
    EXPECT_EQ(outcome.status, 2);
  }
  EXPECT_NE(outcome.err.find("extra.weight"), std::string::npos);
}

TEST_F(Generate, CtrlCWhileDenoisingLeavesNothing) {
  expect_clean_interrupt({"--prompt", "a", "--steps=10000", "--output", path("a.y4m")}, SIGINT,
                         [](const std::string& printed) {
                           return printed.find("encode text: done") != std::string::npos;
                         });
}

TEST_F(Generate, TerminationWhileDecodingLeavesNothing) {
  expect_clean_interrupt({"--prompt", "a", "--steps=1", "--num-frames=8001", "--width=16",
                          "--height=16", "--guidance-scale=1", "--output", path("a.y4m")},
                         SIGTERM, [&](const std::string&) {
                           return std::filesystem::exists(folder_ / ".a.y4m.part");
                         });
}

TEST(GenerateNames, SeveralVideosAreNumbered) {
  EXPECT_EQ(sample_output("d/clip.mp4", 2, 3), "d/clip-2.mp4");
  EXPECT_EQ(sample_output("d/clip.mp4", 0, 1), "d/clip.mp4");
  EXPECT_EQ(sample_output("%04d.png", 1, 2), "%04d-1.png");
  EXPECT_EQ(sidecar_file("d/clip.v2.mp4", 0, 1), "d/clip.v2.json");
  EXPECT_EQ(sidecar_file("d/cat_%04d.png", 0, 1), "d/cat.json");
  EXPECT_EQ(sidecar_file("d/%04d.png", 1, 2), "d/video-1.json");
}

TEST(GenerateNames, OfPngFramesReadTwoPercentSignsAsOne) {
  EXPECT_EQ(sidecar_file("d/100%%_%04d.png", 0, 1), "d/100%.json");
  EXPECT_EQ(sidecar_file("d/100%%.mp4", 0, 1), "d/100%%.json");
  EXPECT_EQ(sidecar_file("d/Cat_%04d.PNG", 0, 1), "d/Cat.json");
  EXPECT_EQ(sidecar_file("d/%d_%%d.Png", 0, 1), "d/_%d.json");
}

TEST(Program, HelpAndVersionSucceed) {
  for (const Arguments& arguments : std::vector<Arguments>{{"--help"},
                                                           {"--version"},
                                                           {"generate", "--help"},
                                                           {"stage", "--help"},
                                                           {"stage", "denoise", "-h"}}) {
    const Outcome outcome = run_here(arguments);
    EXPECT_EQ(outcome.status, 0);
    EXPECT_NE(outcome.out, "");
    EXPECT_EQ(outcome.err, "");
  }
}

TEST(Program, TheBinaryReportsBadUsage) {
  EXPECT_EQ(run_binary({}).status, 2);
  EXPECT_TRUE(refuses(run_binary({"genrate"}), "did you mean generate?"));
  EXPECT_TRUE(refuses(run_binary({"stage", "schedule", "--output", "/proc/x"}), "/proc/x"));
}

TEST(Program, ErrorsOfLibTorchAreOneLine) {
  EXPECT_EQ(one_line("bad  shape\nsecond\nException raised from f at x.cpp:1\nframe #0"),
            "bad shape second");
}

}  // namespace
}  // namespace ospnext
