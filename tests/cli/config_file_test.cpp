// --config: JSON, YAML, OSP-Next's YAML.
#include "cli/config_file.h"

#include <gtest/gtest.h>

#include "cli/ospnext_yaml.h"
#include "core/error.h"
#include "io/readers/bounded_yaml.h"
#include "support/paths.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using nlohmann::json;

class ConfigFile : public testing::Test {
 protected:
  json read(const std::string& name, const std::string& text) const {
    write_file(folder_ / name, text);
    return read_config_file(folder_ / name);
  }
  std::string refusal(const std::string& name, const std::string& text) const {
    try {
      read(name, text);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }
  const TemporaryFolder folder_;
};

TEST_F(ConfigFile, IsTheSameInJsonAndYaml) {
  const json expected = {{"num_frames", 17}, {"prompt", "a cat"}, {"batch_guidance", true}};
  EXPECT_EQ(read("c.json", R"({"num-frames": 17, "prompt": "a cat", "batch_guidance": true})"),
            expected);
  EXPECT_EQ(read("c", R"({"num_frames": 17, "prompt": "a cat", "batch_guidance": true})"),
            expected);
  EXPECT_EQ(read("c.yaml", "num-frames: 17\nprompt: a cat\nbatch_guidance: true\nseed:\n"),
            expected);
  EXPECT_EQ(read("c.YAML", "num-frames: 17\nprompt: a cat\nbatch_guidance: true"), expected);
  EXPECT_EQ(read("c.yml", "config: {num_frames: 17, prompt: a cat, batch_guidance: true}"),
            expected);
}

TEST_F(ConfigFile, KeepsEveryDigitOfASeed) {
  for (const auto& [name, text] : {std::pair{"c.json", R"({"seed": 18446744073709551615})"},
                                   std::pair{"c.yaml", "seed: 18446744073709551615"}}) {
    const json seed = read(name, text)["seed"];
    ASSERT_TRUE(seed.is_number_unsigned()) << name;
    EXPECT_EQ(seed.get<uint64_t>(), 18446744073709551615u) << name;
  }
}

TEST_F(ConfigFile, IsRefusedInASentence) {
  EXPECT_NE(refusal("c.yaml", "[1, 2]").find("expected flag names and values, found array"),
            std::string::npos);
  EXPECT_NE(refusal("c.yaml", "a: *b"), "");
  EXPECT_NE(refusal("c.json", R"({"num_frames": 5, "num-frames": 6})").find("twice"),
            std::string::npos);
  EXPECT_NE(refusal("c.mp4", "no video at all"), "");
  EXPECT_NE(refusal("c.MP4", "{}"), "");
  EXPECT_NE(refusal("c.y4m", "YUV4MPEG2 W2 H2").find("keeps no comment"), std::string::npos);
}

TEST(OspnextYaml, IsUnderstood) {
  const std::string file = fixture_path("configs/osp_14b.yaml");
  const json yaml = read_yaml_file(file);
  ASSERT_TRUE(is_ospnext_yaml(yaml));
  testing::internal::CaptureStderr();
  const json flags = flags_from_ospnext_yaml(yaml, file);
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_EQ(flags, (json{{"scheduler", "euler"},
                         {"seed", 1024},
                         {"seed_step", 0},
                         {"prompts", "assets/t2v/simple_prompts.txt"},
                         {"num_frames", 81},
                         {"height", 720},
                         {"width", 1280},
                         {"fps", 16},
                         {"precision", "bf16"},
                         {"transformer", "/path/to/model"},
                         {"transformer_config", file},
                         {"steps", 50},
                         {"shift", 7.0},
                         {"guidance_scale", 5.0},
                         {"vae", "/path/to/vae"},
                         {"vae_precision", "fp32"},
                         {"text_encoder", "/path/to/text_encoder"},
                         {"tokenizer", "/path/to/text_tokenizer"},
                         {"output", "/path/to/output/video.mp4"}}));
  for (const char* key :
       {"\"fsdp_size\"", "\"sp_size\"", "\"skiparse_sp_size\"", "\"reshard_after_forward\"",
        "\"text_encoder_config.use_fsdp\"", "\"batch_size\""}) {
    EXPECT_NE(warnings.find(key), std::string::npos) << key;
  }
  EXPECT_EQ(warnings.find("unknown"), std::string::npos) << warnings;
}

TEST(OspnextYaml, UnknownKeysAreNamedAndAFolderSaysItselfWhatItIs) {
  const TemporaryFolder folder;
  testing::internal::CaptureStderr();
  const json flags = flags_from_ospnext_yaml(
      json{{"colour", 3},
           {"model_config",
            {{"depth", 4}, {"pretrained_model_dir_or_checkpoint", folder.path().string()}}},
           {"vae_config", {{"dtype", "fp16"}}}},
      "c.yaml");
  const std::string warnings = testing::internal::GetCapturedStderr();
  EXPECT_NE(warnings.find("unknown keys are ignored: \"colour\", \"model_config.depth\""),
            std::string::npos)
      << warnings;
  EXPECT_FALSE(flags.contains("transformer_config"));
  EXPECT_EQ(flags["vae_precision"], "float32");
}

TEST(OspnextYaml, OfAnotherPipelineIsRefused) {
  const auto refused = [](const json& config) {
    EXPECT_THROW(flags_from_ospnext_yaml(config, "c.yaml"), InputError) << config;
  };
  refused({{"pipeline_name", "i2v"}, {"model_config", json::object()}});
  refused({{"scheduler_config", {{"scheduler_name", "ddpm"}}}});
  refused({{"text_encoder_config", {{"text_len", 226}}}});
  refused({{"model_config", 3}});
  refused({{"output_dir", 3}, {"model_config", json::object()}});
}

}  // namespace
}  // namespace ospnext
