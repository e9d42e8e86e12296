// --lora on the commands that run the transformer.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/readers/tensor_file.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

class LoraFlag : public testing::Test {
 protected:
  LoraFlag() {
    torch::manual_seed(3);
    write_tiny_diffusers_model(folder_ / "model");
    down_ = torch::randn({2, 128}) * 0.1;
    up_ = torch::randn({128, 2}) * 0.1;
    save_safetensors(path("lora.safetensors"),
                     {{"diffusion_model.blocks.0.cross_attn.v.lora_down.weight", down_},
                      {"diffusion_model.blocks.0.cross_attn.v.lora_up.weight", up_}});
    save_safetensors(path("in.safetensors"), {{"latent", torch::randn({1, 16, 2, 4, 6})},
                                              {"text", torch::randn({1, 512, 32})},
                                              {"timestep", torch::tensor({500.0f})}});
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Outcome denoise(Arguments arguments) const {
    arguments.insert(arguments.begin(), {"stage", "denoise", "--input", path("in.safetensors"),
                                         "--output", path("out.safetensors")});
    return run_here(arguments);
  }
  at::Tensor velocity(const Arguments& arguments) const {
    const Outcome outcome = denoise(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return read_tensors(path("out.safetensors")).at("velocity");
  }

  const TemporaryFolder folder_;
  at::Tensor down_, up_;
};

TEST_F(LoraFlag, DenoiseEqualsTheModelThatWasMergedByHand) {
  auto weights = read_tensors(folder_ / "model/transformer/diffusion_pytorch_model.safetensors");
  at::Tensor& weight = weights.at("blocks.0.cross_attn.v.weight");
  weight = torch::addmm(torch::addmm(weight, up_, down_, 1.0, 0.5), up_, down_, 1.0, 1.0);
  save_safetensors(path("merged.safetensors"), weights);
  const at::Tensor plain = velocity({"--model", path("model")});
  const at::Tensor expected = velocity({"--transformer", path("merged.safetensors")});
  const at::Tensor actual =
      velocity({"--model", path("model"), "--lora", path("lora.safetensors:0.5"), "--lora",
                path("lora.safetensors")});
  EXPECT_LT(relative_l2(actual, expected), 1e-6);  // one rounding of a weight
  EXPECT_GT(relative_l2(actual, plain), 1e-3);
}

TEST_F(LoraFlag, GenerateKeepsItInTheConfiguration) {
  const Outcome outcome =
      run_here({"generate", "--model", path("model"), "--prompt", "a", "--steps", "1", "--device",
                "cpu", "--output", path("%d.png"), "--lora", path("lora.safetensors:0.25")});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto sidecar = nlohmann::json::parse(file_text(folder_ / "video.json"));
  EXPECT_EQ(sidecar["config"]["lora"], nlohmann::json({path("lora.safetensors:0.25")}));
}

TEST_F(LoraFlag, ThatHasNoAlphaIsSaidToHaveNoneOnce) {
  const std::string remark =
      path("lora.safetensors") + ": found no alpha for 1 of 1 layers, scale 1 is taken for them";
  const auto said = [&](const Outcome& outcome) {
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const size_t first = outcome.err.find("ospnext: warning: " + remark + "\n");
    return first != std::string::npos &&
           outcome.err.find(remark, first + remark.size()) == std::string::npos;
  };
  EXPECT_TRUE(said(denoise({"--model", path("model"), "--lora", path("lora.safetensors"), "--lora",
                            path("lora.safetensors:0.5")})));
  EXPECT_TRUE(said(
      run_here({"generate", "--model", path("model"), "--prompt", "a", "--steps", "1", "--device",
                "cpu", "--output", path("%d.png"), "--lora", path("lora.safetensors:0.25")})));
  EXPECT_TRUE(said(run_here({"merge-lora", "--model", path("model"), "--output", path("merged"),
                             "--lora", path("lora.safetensors")})));
  const Outcome inspected = run_here({"inspect", path("lora.safetensors"), "--json"});
  EXPECT_EQ(nlohmann::json::parse(inspected.out)["remarks"], nlohmann::json({remark}));
}

// The velocity is that of timestep 500.
TEST_F(LoraFlag, MayActAtSomeNoiseLevelsAlone) {
  const auto adapter = [&](const std::string& config) {
    std::filesystem::create_directories(folder_ / "noisy");
    save_safetensors(path("noisy/adapter_model.safetensors"),
                     {{"base_model.model.blocks.0.self_attn.v.lora_A.weight", down_},
                      {"base_model.model.blocks.0.self_attn.v.lora_B.weight", up_}});
    write_file(folder_ / "noisy/adapter_config.json", "{\"lora_alpha\": 4" + config + "}");
    return path("noisy");
  };
  const auto with = [&](const std::string& config, const char* mode) {
    return velocity({"--model", path("model"), "--lora", adapter(config), "--lora-mode", mode});
  };
  const at::Tensor plain = velocity({"--model", path("model")}), live = with("", "live");
  EXPECT_GT(relative_l2(live, plain), 1e-3);
  for (const char* mode : {"auto", "live"}) {
    EXPECT_TRUE(at::equal(with(", \"lowest_noise_level\": 0.51", mode), plain)) << mode;
    EXPECT_TRUE(at::equal(with(", \"lowest_noise_level\": 0.5", mode), live)) << mode;
  }
  const std::string lora = adapter(", \"lowest_noise_level\": 0.5");
  const std::string message = path("noisy/adapter_model.safetensors") +
                              ": acts at some noise levels alone (lowest_noise_level in its "
                              "configuration), expected one for all levels where LoRAs are merged";
  const Arguments merged = {"--model", path("model"), "--lora", lora, "--lora-mode", "merge"};
  std::filesystem::remove(folder_ / "out.safetensors");
  EXPECT_TRUE(refuses(denoise(merged), message));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out.safetensors"));
  Arguments generate = {"generate", "--prompt", "a",        "--steps",     "1",
                        "--device", "cpu",      "--output", path("%d.png")};
  generate.insert(generate.end(), merged.begin(), merged.end());
  EXPECT_TRUE(refuses(run_here(generate), message));
  EXPECT_TRUE(refuses(run_here({"merge-lora", "--model", path("model"), "--output", path("merged"),
                                "--lora", lora}),
                      message));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "merged"));
}

TEST_F(LoraFlag, Refusals) {
  const auto refused = [&](const std::string& lora, const std::string& message) {
    EXPECT_TRUE(refuses(denoise({"--model", path("model"), "--lora", lora}), message));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "out.safetensors"));
    EXPECT_TRUE(refuses(run_here({"generate", "--model", path("model"), "--prompt", "a", "--device",
                                  "cpu", "--output", path("%d.png"), "--lora", lora}),
                        message));
    EXPECT_FALSE(std::filesystem::exists(folder_ / "video.json"));
  };
  refused(path("none.safetensors"), "none.safetensors");
  refused(path("lora.safetensors:strong"), "found the strength \"strong\"");
  refused(path("model"), "adapter_model.safetensors");
  refused(path("model/transformer/diffusion_pytorch_model.safetensors"), "have no name of a LoRA");
  save_safetensors(path("other.safetensors"),
                   {{"transformer.blocks.7.attn1.to_q.lora_A.weight", torch::zeros({1, 128})},
                    {"transformer.blocks.7.attn1.to_q.lora_B.weight", torch::zeros({128, 1})}});
  refused(path("other.safetensors"),
          "1 of 1 changes fit no layer of the transformer: "
          "\"transformer.blocks.7.attn1.to_q.lora_B.weight\"");
}

}  // namespace
}  // namespace ospnext
