// Files that `ospnext generate` writes and reads again: previews, prompt files, configurations.
#include <png.h>

#include <nlohmann/json.hpp>

#include "cli/generate_fixture.h"
#include "engine/generate_config.h"
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
  Names names = {"a_%d.png"};
#ifdef OSPNEXT_FFMPEG
  names.insert(names.end(), {"a.mp4", "a.webm", "a.webp", "a.gif"});
#endif
  for (const std::string& name : names) {
    make({"--prompt", "a \"red\" <ball> & 一个球", "--seed=7", "--output", path(name)});
    const bool is_png = name.ends_with(".png");
    std::string again = name;
    again[0] = 'b';
    const std::string made = is_png ? "a_2.png" : name, remade = is_png ? "b_2.png" : again;
    make({"--config", path(made), "--output", path(again)});
    EXPECT_TRUE(text(remade) == text(made)) << name;
  }
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
