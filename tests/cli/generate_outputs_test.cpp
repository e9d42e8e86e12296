// Files that `ospnext generate` writes and reads again: previews, prompt files, configurations.
#include <png.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/generate_fixture.h"
#include "engine/generate_config.h"
#include "io/moving_picture.h"
#include "io/weights.h"
#include "schedulers/flow_matching.h"
#include "support/paths.h"

namespace ospnext {
namespace {

using nlohmann::json;
using GenerateOutputs = Generate;

TEST_F(GenerateOutputs, PreviewsShowTheFirstFrameAndChangeNothing) {
  make({"--prompt", "a red ball", "--seed=7", "--output", path("%dplain.png")});
  make({"--prompt", "a red ball", "--seed=7", "--preview=1", "--output", path("p_%d.png")});
  png_image previews[3] = {};
  for (int step = 1; step <= 3; ++step) {
    png_image& image = previews[step - 1];
    image.version = PNG_IMAGE_VERSION;
    const std::string file = path("p-preview-000" + std::to_string(step) + ".png");
    ASSERT_NE(png_image_begin_read_from_file(&image, file.c_str()), 0) << file;
    EXPECT_EQ(image.width, 48u);
    EXPECT_EQ(image.height, 32u);
    png_image_free(&image);
  }
  const auto pixels = [&](const std::string& name) {
    png_image image{};
    image.version = PNG_IMAGE_VERSION;
    EXPECT_NE(png_image_begin_read_from_file(&image, path(name).c_str()), 0) << name;
    image.format = PNG_FORMAT_RGB;
    std::string bytes(PNG_IMAGE_SIZE(image), '\0');
    EXPECT_NE(png_image_finish_read(&image, nullptr, bytes.data(), 0, nullptr), 0) << name;
    return bytes;
  };
  EXPECT_TRUE(pixels("p_0.png") == pixels("0plain.png"));
  EXPECT_TRUE(pixels("p_4.png") == pixels("4plain.png"));
  EXPECT_TRUE(pixels("p-preview-0003.png") ==
              pixels("p_0.png"));  // the last estimate is the latent
  EXPECT_TRUE(pixels("p-preview-0001.png") != pixels("p_0.png"));
}

TEST_F(GenerateOutputs, APromptFileIsResumed) {
  write_file(folder_ / "p.txt", "a red ball\n\na blue cube\n");
  const Arguments arguments = {"--prompts", path("p.txt"), "--num-frames=1", "--output",
                               path("a.y4m")};
  make(arguments);
  const Names all = {"a-0.json", "a-0.y4m", "a-1.json", "a-1.y4m", "a-2.json", "a-2.y4m", "p.txt"};
  EXPECT_EQ(folder_.names(), all);
  const std::string first = text("a-0.json"), second = text("a-1.y4m"), third = text("a-2.y4m");
  std::filesystem::remove(folder_ / "a-1.y4m");   // as if it had not been finished
  std::filesystem::remove(folder_ / "a-2.json");  // as if killed between the two
  Arguments again = with_model(arguments);
  again.push_back("--skip-existing");
  const Outcome resumed = run_here(again);
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(resumed.out, path("a-1.y4m") + "\n" + path("a-2.y4m") + "\n");
  EXPECT_NE(resumed.err.find("1 of 3 videos are there already"), std::string::npos);
  EXPECT_EQ(text("a-0.json"), first);  // with the seconds of the first run
  EXPECT_TRUE(text("a-1.y4m") == second);
  EXPECT_TRUE(text("a-2.y4m") == third);
  EXPECT_EQ(folder_.names(), all);
  const Outcome nothing_to_do = run_here(again);
  EXPECT_EQ(nothing_to_do.status, 0);
  EXPECT_EQ(nothing_to_do.out, "");
}

TEST_F(GenerateOutputs, WhatWasMadeOtherwiseIsNotSkipped) {
  make({"--prompt", "a red ball", "--num-frames=1", "--output", path("a.y4m")});
  expect_refusal(
      {"--prompt", "a blue cube", "--num-frames=1", "--output", path("a.y4m"), "--skip-existing"},
      "made with prompt \"a red ball\", expected \"a blue cube\"");
  expect_refusal({"--prompt", "a red ball", "--num-frames=1", "--output", path("a.y4m"),
                  "--skip-existing", "--save-latent", path("l")},
                 "--skip-existing");
}

TEST_F(GenerateOutputs, ARecordHoldsWhatMakesItsVideoAndNothingElse) {
  at::Tensor noise = torch::stack({initial_noise(7, 16, 2, 4, 6), initial_noise(8, 16, 2, 4, 6)});
  save_safetensors(path("noise"), {{"latent", noise}});
  make({"--prompt", "a red ball", "--num-videos=2", "--initial-noise", path("noise"), "--output",
        path("a.y4m"), "--save-latent", path("latent"), "--preview=3"});
  const json config = json::parse(text("a-1.json"))["config"];
  EXPECT_EQ(config["initial_noise_index"], 1);
  EXPECT_EQ(config["save_latent"], "");
  EXPECT_EQ(config["preview"], 0);
  const std::string latent = text("latent");
  make({"--config", path("a-1.json"), "--output", path("b.y4m")});
  EXPECT_TRUE(text("b.y4m") == text("a-1.y4m"));
  EXPECT_TRUE(text("b.y4m") != text("a-0.y4m"));
  EXPECT_TRUE(text("latent") == latent);
  expect_refusal(
      {"--config", path("a-1.json"), "--initial-noise-index=2", "--output", path("c.y4m")},
      "--initial-noise-index: found 2, expected 0 to 1");
}

TEST_F(GenerateOutputs, EveryFileThatKeepsItsConfigurationMakesItselfAgain) {
  for (const std::string& name : video_names("a")) {
    if (name.ends_with(".y4m")) {
      continue;  // it keeps none
    }
    make({"--prompt", "a \"red\" <ball> & 一个球", "--seed=7", "--output", path(name)});
    const bool is_png = name.ends_with(".png");
    std::string again = name;
    again[0] = 'b';
    const std::string made = is_png ? "a_002.png" : name, remade = is_png ? "b_002.png" : again;
    make({"--config", path(made), "--output", path(again)});
    EXPECT_TRUE(text(remade) == text(made)) << name;
  }
}

TEST_F(GenerateOutputs, ASeedMayHave64Bits) {
  const uint64_t most = std::numeric_limits<uint64_t>::max();
  make({"--prompt=a", "--num-frames=1", "--num-videos=2", "--seed=18446744073709551615", "--output",
        path("a.y4m")});
  const auto seed_of = [&](const std::string& name) {
    return json::parse(text(name))["config"]["seed"].get<uint64_t>();
  };
  EXPECT_EQ(seed_of("a-0.json"), most);
  EXPECT_EQ(seed_of("a-1.json"), 0u);  // modulo 2^64
  write_file(folder_ / "c.yaml", "prompt: a\nseed: 18446744073709551615\nnum-frames: 1\n");
  for (const std::string& config : {path("a-0.json"), path("c.yaml")}) {
    make({"--config", config, "--output", path("b.y4m")});
    EXPECT_EQ(seed_of("b.json"), most);
    EXPECT_TRUE(text("b.y4m") == text("a-0.y4m")) << config;
  }
  make({"--config", path("a-1.json"), "--output", path("b.y4m")});
  EXPECT_TRUE(text("b.y4m") == text("a-1.y4m"));
  EXPECT_TRUE(text("a-0.y4m") != text("a-1.y4m"));
}

TEST_F(GenerateOutputs, ADrawnSeedIsRecorded) {
  make({"--prompt=a", "--num-frames=1", "--seed=-1", "--output", path("a.y4m")});
  write_file(folder_ / "c.yaml", "prompt: a\nseed: -1\nnum-frames: 1\n");
  make({"--config", path("c.yaml"), "--output", path("b.y4m")});
  const json a = json::parse(text("a.json"))["config"]["seed"];
  EXPECT_TRUE(a.is_number_unsigned());
  EXPECT_NE(a, json::parse(text("b.json"))["config"]["seed"]);
  make({"--config", path("a.json"), "--output", path("again.y4m")});
  EXPECT_TRUE(text("again.y4m") == text("a.y4m"));
  EXPECT_TRUE(text("b.y4m") != text("a.y4m"));
  make({"--config", path("c.yaml"), "--seed", a.dump(), "--output", path("again.y4m")});
  EXPECT_TRUE(text("again.y4m") == text("a.y4m"));  // the flag goes before the file
}

TEST_F(GenerateOutputs, AnExtensionIsOneInAnyCase) {
  make({"--prompt=a", "--seed=7", "--num-frames=1", "--output", path("a.Y4M")});
  make({"--prompt=a", "--seed=7", "--num-frames=1", "--output", path("b_%d.Png")});
  EXPECT_EQ(folder_.names(), (Names{"a.Y4M", "a.json", "b.json", "b_0.Png"}));
  std::filesystem::rename(path("a.json"), path("a.JSON"));
  make({"--config", path("a.JSON"), "--output", path("c.y4m")});
  EXPECT_TRUE(text("c.y4m") == text("a.Y4M"));
  make({"--config", path("b_0.Png"), "--output", path("d.y4m")});
  EXPECT_TRUE(text("d.y4m") == text("a.Y4M"));
  write_file(folder_ / "e.YAML", "prompt: a\nseed: 7\nnum-frames: 1\n");
  make({"--config", path("e.YAML"), "--output", path("e.y4m")});
  EXPECT_TRUE(text("e.y4m") == text("a.Y4M"));
}

TEST_F(GenerateOutputs, APercentSignIsWrittenAsTwoInPngNamesAndAsItselfElsewhere) {
  make({"--prompt=a", "--num-frames=1", "--output", path("100%%_%d.png")});
  make({"--prompt=a", "--num-frames=1", "--output", path("50%.y4m")});
  EXPECT_EQ(folder_.names(), (Names{"100%.json", "100%_0.png", "50%.json", "50%.y4m"}));
  expect_refusal({"--prompt=a", "--output", path("100%_%d.png")}, "%% is a percent sign");
  expect_refusal({"--prompt=a", "--output", path("%%04d.png")}, "%% is a percent sign");
}

TEST_F(GenerateOutputs, ALongNameWorksWhereThatOfItsJsonIsLegal) {
  const Arguments common = {"--prompt=a", "--num-frames=1", "--steps=1"};
  const auto with = [&](const Arguments& flags) {
    Arguments all = common;
    all.insert(all.end(), flags.begin(), flags.end());
    return all;
  };
  const std::string longest(250, 'x');
  Names names = {longest + ".y4m"};
#ifdef OSPNEXT_FFMPEG
  names.insert(names.end(), {longest + ".gif", longest + ".mp4"});
#endif
  Names made = {longest + ".json"};
  for (const std::string& name : names) {
    make(with({"--output", path(name)}));
    made.push_back(name);
    std::sort(made.begin(), made.end());
    EXPECT_EQ(folder_.names(), made);  // and nothing hidden
  }
  expect_refusal(with({"--output", path("x" + longest + ".y4m")}),
                 "found a name of 256 bytes, expected at most 255");  // the JSON's
  expect_refusal(with({"--output", path("xx" + longest + ".y4m")}), "found a name of 256 bytes");
  expect_refusal(with({"--num-videos=2", "--output", path(longest + ".y4m")}),
                 "found a name of 256 bytes");
  expect_refusal(with({"--preview=1", "--output", path(longest + ".y4m")}),
                 "--preview: " + path(longest) + "-preview-0001.png: found a name of 267 bytes");
  expect_refusal({"--prompt=a", "--num-frames=13", "--output", path(longest + "%d.png")},
                 "found a name of 256 bytes");  // frame 12's
}

TEST_F(GenerateOutputs, ALinksTargetIsWritten) {
  std::filesystem::create_directory(folder_ / "store");
  write_file(folder_ / "store" / "old.y4m", "old");
  std::filesystem::create_symlink("store/old.y4m", folder_ / "a.y4m");
  std::filesystem::create_symlink(folder_ / "store" / "new.json", folder_ / "a.json");
  std::filesystem::create_symlink("store/0.png", folder_ / "f_0.png");
  make({"--prompt=a", "--num-frames=1", "--output", path("a.y4m")});
  make({"--prompt=a", "--num-frames=1", "--output", path("f_%d.png")});
  for (const char* const link : {"a.y4m", "a.json", "f_0.png"}) {
    EXPECT_TRUE(std::filesystem::is_symlink(folder_ / link)) << link;
  }
  EXPECT_TRUE(text("store/old.y4m").starts_with("YUV4MPEG2"));
  EXPECT_TRUE(json::parse(text("store/new.json")).contains("config"));
  EXPECT_TRUE(text("store/0.png").starts_with("\x89PNG"));
  make({"--config", path("a.json"), "--output", path("b.y4m")});
  EXPECT_TRUE(text("b.y4m") == text("store/old.y4m"));
  std::filesystem::create_symlink("round.y4m", folder_ / "round.y4m");
  expect_refusal({"--prompt=a", "--output", path("round.y4m")}, "--output " + path("round.y4m"));
  std::filesystem::create_symlink("gone/a.y4m", folder_ / "into.y4m");
  expect_refusal({"--prompt=a", "--output", path("into.y4m")}, "there is no folder");
}

TEST_F(GenerateOutputs, APromptThatIsCutIsNamedOnce) {
  std::string words;
  for (int i = 0; i < 600; ++i) {
    words += "ball ";
  }
  write_file(folder_ / "p.txt", "a red ball\n" + words + "\n");
  const Outcome outcome =
      run_here(with_model({"--prompts", path("p.txt"), "--num-videos=2", "--num-frames=1",
                           "--steps=1", "--output", path("a.y4m")}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const std::string told = "ospnext: warning: the prompt \"ball ball ";
  const size_t place = outcome.err.find(told);
  ASSERT_NE(place, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("ospnext: warning", place + 1), std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("ospnext: warning"), place);
  EXPECT_EQ(json::parse(text("a-2.json"))["config"]["prompt"], words);  // as it was given
  const Outcome stage = run_here({"stage", "encode-text", "--device=cpu", "--model", model(),
                                  "--prompts", path("p.txt"), "--output", path("t")});
  EXPECT_EQ(stage.status, 0);
  EXPECT_TRUE(stage.err.starts_with(told)) << stage.err;
}

TEST_F(GenerateOutputs, OurYamlHasTheNamesOfTheFlags) {
  write_file(folder_ / "c.yaml",
             "prompt: a red ball\nseed: 7\nnum-frames: 1\noutput: " + path("a.y4m") + "\n");
  make({"--config", path("c.yaml")});
  make({"--prompt", "a red ball", "--seed=7", "--num-frames=1", "--output", path("b.y4m")});
  EXPECT_TRUE(text("a.y4m") == text("b.y4m"));
  write_file(folder_ / "c.yaml", "prompt: a red ball\nsteps: many\n");
  expect_refusal({"--config", path("c.yaml"), "--output", path("c.y4m")}, "steps: found \"many\"");
}

#ifdef OSPNEXT_FFMPEG
TEST_F(GenerateOutputs, OspNextsYamlRunsAsItIs) {
  write_file(folder_ / "p.txt", "a red ball\na blue cube\n");
  const TransformerConfig sizes = tiny_transformer_config();
  const auto yaml = [&](const std::string& skiparse, const std::string& extra) {
    return "model_name: osp_next\npipeline_name: t2v\nseed: 7\nprompt_txt: " + path("p.txt") +
           "\noutput_dir: " + path("made/by/it") +
           "\nnum_frames: 5\nheight: 32\nwidth: 48\nsave_fps: 8\nbatch_size: 1\nfsdp_size: 8\n"
           "use_sequence_parallel: False\nreshard_after_forward: Null\nweight_dtype: fp32\n" +
           extra + "model_config:\n  dim: " + std::to_string(sizes.dim) +
           "\n  num_heads: 1\n  num_layers: 2\n" + "  skiparse_model_type: " + skiparse +
           "\n  sparse_ratio: 2\n  pretrained_model_dir_or_checkpoint: " +
           part("transformer/diffusion_pytorch_model.safetensors") +
           "\nscheduler_config: {scheduler_name: flow_matching, num_inference_steps: 2, shift: "
           "7.0, "
           "guidance_scale: 5.0}\nvae_config: {vae_path: " +
           part("vae") + ", dtype: fp32}\ntext_encoder_config: {text_len: 512, checkpoint_path: " +
           part("text_encoder") + ", text_tokenizer_path: " + part("tokenizer") +
           ", use_fsdp: True}\n";
  };
  write_file(folder_ / "osp.yaml", yaml("full", "colour: blue\n"));
  const Outcome outcome = run_here({"generate", "--device=cpu", "--config", path("osp.yaml")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("not there yet, so these keys are ignored: \"fsdp_size\""),
            std::string::npos);
  EXPECT_NE(outcome.err.find("unknown keys are ignored: \"colour\""), std::string::npos);
  const json record = json::parse(text("made/by/it/video-1.json"))["config"];
  EXPECT_EQ(record["seed"], 7);
  EXPECT_EQ(record["steps"], 2);
  EXPECT_EQ(record["fps"], 8);
  EXPECT_EQ(record["transformer_config"], path("osp.yaml"));
  EXPECT_EQ(run_here({"generate", "--config", path("made/by/it/video-1.json"), "--output",
                      path("again.mp4")})
                .status,
            0);
  EXPECT_TRUE(text("again.mp4") == text("made/by/it/video-1.mp4"));
  // The sparse pattern comes from the YAML file, not from the config.json beside the weights.
  write_file(folder_ / "osp.yaml", yaml("uniform", ""));
  EXPECT_EQ(run_here({"generate", "--device=cpu", "--config", path("osp.yaml"), "--output",
                      path("s.mp4")})
                .status,
            0);
  EXPECT_TRUE(text("s-1.mp4") != text("again.mp4"));
}
#endif

TEST_F(GenerateOutputs, TheShippedModelMakesItsVideoAgainBitForBit) {
  const Arguments common = {
      "generate",   "--device=cpu", "--model",     source_path("models/tiny"), "--prompt",
      "a red ball", "--width=32",   "--height=32", "--num-frames=5",           "--steps=2"};
  Arguments first = common;
  first.insert(first.end(), {"--num-videos=2", "--seed=3", "--output", path("a.y4m")});
  EXPECT_EQ(run_here(first).status, 0);
  EXPECT_EQ(run_here({"generate", "--config", path("a-1.json"), "--output", path("b.y4m")}).status,
            0);
  EXPECT_TRUE(text("b.y4m") == text("a-1.y4m"));
  EXPECT_TRUE(text("b.y4m") != text("a-0.y4m"));
}

TEST(GenerateNames, OfPreviewsComeFromTheSidecar) {
  EXPECT_EQ(preview_file("d/clip.mp4", 0, 1, 10), "d/clip-preview-0010.png");
  EXPECT_EQ(preview_file("d/clip.mp4", 2, 3, 12345), "d/clip-2-preview-12345.png");
  EXPECT_EQ(preview_file("d/%04d.png", 0, 1, 5), "d/video-preview-0005.png");
}

}  // namespace
}  // namespace ospnext
