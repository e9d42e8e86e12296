// inspect, convert, merge-lora and make-random on files.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

using nlohmann::json;

class ModelFileCommands : public testing::Test {
 protected:
  ModelFileCommands() {
    write_tiny_wan_model(folder_ / "wan");
    save_safetensors(path("lora.safetensors"),
                     {{"lora_unet_blocks_0_ffn_0.lora_down.weight", torch::randn({4, 128})},
                      {"lora_unet_blocks_0_ffn_0.lora_up.weight", torch::randn({64, 4})},
                      {"lora_unet_blocks_0_ffn_0.alpha", torch::tensor(2.0F)}});
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Outcome run(const Arguments& arguments) const {
    const Outcome outcome = run_here(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  }
  json inspected(const std::string& name) const {
    return json::parse(run({"inspect", path(name), "--json"}).out);
  }
  // Expects a refusal that leaves the folder unchanged.
  void expect_refusal(const Arguments& arguments, const std::string& part) const {
    const auto before = folder_.names();
    EXPECT_TRUE(refuses(run_here(arguments), part));
    EXPECT_EQ(folder_.names(), before);
  }

  const TemporaryFolder folder_;
};

TEST_F(ModelFileCommands, InspectTellsEveryKind) {
  const json model = inspected("wan");
  EXPECT_EQ(model["layout"], "wan");
  ASSERT_EQ(model["parts"].size(), 3U);
  EXPECT_EQ(model["missing"], json::array());
  const json transformer = inspected("wan/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(transformer, model["parts"][0]);
  EXPECT_EQ(transformer["kind"], "transformer");
  EXPECT_EQ(transformer["names"], "Wan, OSP-Next");
  EXPECT_EQ(transformer["config"]["ffn_dim"], 64);
  EXPECT_EQ(transformer["dtypes"], json({{"F32", 69}}));
  EXPECT_EQ(transformer["tensors"], 69);
  EXPECT_EQ(transformer["bytes"], 4 * transformer["parameters"].get<int64_t>());
  EXPECT_EQ(model["parts"][1]["kind"], "text encoder");
  EXPECT_EQ(model["parts"][2]["kind"], "VAE");
  const json lora = inspected("lora.safetensors");
  EXPECT_EQ(lora["kind"], "LoRA");
  EXPECT_EQ(lora["families"], json({"kohya (lora_unet_*)"}));
  EXPECT_EQ(lora["ranks"], json({4}));
  EXPECT_EQ(lora["scales"], json({0.5}));
  const std::string text = run({"inspect", path("wan"), path("lora.safetensors")}).out;
  for (const char* part : {"layout", "ffn_dim 64", "text encoder", "VAE", "kohya", "69"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part;
  }
}

TEST_F(ModelFileCommands, InspectSaysWhatIsMissingOrWrong) {
  auto weights = read_tensors(folder_ / "wan/diffusion_pytorch_model.safetensors");
  weights.erase("blocks.1.ffn.2.bias");
  weights["extra"] = torch::zeros({1});
  save_safetensors(path("part.safetensors"), weights);
  json found = inspected("part.safetensors");
  EXPECT_EQ(found["missing"], json({"blocks.1.ffn.2.bias"}));
  EXPECT_EQ(found["unused"], json({"extra"}));
  save_safetensors(path("other.safetensors"), {{"x", torch::zeros({3}, at::kHalf)}});
  found = inspected("other.safetensors");
  EXPECT_EQ(found["kind"], "unknown");
  EXPECT_EQ(found["dtypes"], json({{"F16", 1}}));
  EXPECT_NE(found["problem"].get<std::string>().find("found tensors such as \"x\""),
            std::string::npos);
  std::filesystem::remove(folder_ / "wan/Wan2.1_VAE.safetensors");
  found = inspected("wan");
  ASSERT_EQ(found["missing"].size(), 1U);
  EXPECT_NE(found["missing"][0].get<std::string>().find("found no VAE"), std::string::npos);
  save_safetensors(path("half.safetensors"),
                   {{"lora_unet_blocks_0_ffn_0.lora_down.weight", torch::zeros({4, 128})}});
  EXPECT_NE(inspected("half.safetensors")["problem"].get<std::string>().find("stands alone"),
            std::string::npos);
}

TEST_F(ModelFileCommands, InspectRefusals) {
  expect_refusal({"inspect"}, "expected the path of a file or folder");
  expect_refusal({"inspect", path("none")}, "none");
  std::filesystem::create_directory(folder_ / "empty");
  expect_refusal({"inspect", path("empty")}, "found none in it");
  write_file(folder_ / "text.safetensors", "hello");
  expect_refusal({"inspect", path("text.safetensors")}, "text.safetensors");
  expect_refusal({"inspect", path("wan"), "--jsno"}, "did you mean --json?");
}

TEST_F(ModelFileCommands, ConvertWritesAModelThatRunsTheSame) {
  const Outcome outcome = run({"convert", "--model", path("wan"), "--layout", "diffusers",
                               "--output", path("new"), "--shard-size", "0.0004"});
  EXPECT_NE(outcome.out.find("new/transformer/diffusion_pytorch_model.safetensors.index.json: "
                             "transformer, 69 tensors"),
            std::string::npos)
      << outcome.out;
  save_safetensors(path("in.safetensors"), {{"latent", torch::randn({1, 16, 1, 4, 4})},
                                            {"text", torch::randn({1, 512, 32})},
                                            {"timestep", torch::tensor({500.0F})}});
  const auto velocity = [&](const std::string& model) {
    run({"stage", "denoise", "--model", path(model), "--input", path("in.safetensors"), "--output",
         path("out.safetensors")});
    return read_tensors(path("out.safetensors")).at("velocity");
  };
  EXPECT_TRUE(velocity("new").equal(velocity("wan")));
}

TEST_F(ModelFileCommands, MergeLoraWritesTheModelWithIt) {
  run({"merge-lora", "--model", path("wan"), "--lora", path("lora.safetensors:0.5"), "--output",
       path("merged")});
  const auto before = read_tensors(folder_ / "wan/diffusion_pytorch_model.safetensors");
  const auto after = read_tensors(folder_ / "merged/diffusion_pytorch_model.safetensors");
  const auto lora = read_tensors(path("lora.safetensors"));
  const at::Tensor expected =
      before.at("blocks.0.ffn.0.weight") +
      0.25 * lora.at("lora_unet_blocks_0_ffn_0.lora_up.weight")
                 .mm(lora.at("lora_unet_blocks_0_ffn_0.lora_down.weight"));  // 0.5 · 2 / 4
  EXPECT_LT(relative_max(after.at("blocks.0.ffn.0.weight"), expected), 1e-6);
  EXPECT_TRUE(after.at("blocks.0.ffn.2.weight").equal(before.at("blocks.0.ffn.2.weight")));
}

TEST_F(ModelFileCommands, WritingRefusals) {
  const auto convert = [&](const Arguments& more) {
    Arguments all{"convert", "--model", path("wan"), "--output", path("new")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  expect_refusal(convert({}),
                 "--layout: found \"\", expected wan, diffusers, osp-next or single-file");
  expect_refusal(convert({"--layout", "wan", "--dtype", "fp8"}),
                 "--dtype: found \"fp8\", expected keep, float32, float16 or bf16");
  expect_refusal(convert({"--layout", "wan", "--shard-size", "0"}), "--shard-size: found 0");
  expect_refusal({"convert", "--model", path("wan"), "--layout", "wan"}, "--output: missing");
  expect_refusal({"convert", "--model", path("wan"), "--layout", "wan", "--output", path("wan")},
                 "exists, expected a new or an empty folder");
  expect_refusal({"convert", "--model", path("wan"), "--layout", "wan", "--output", path("a/b")},
                 "cannot write here");
  expect_refusal({"convert", "--layout", "wan", "--output", path("new")}, "--transformer");
  expect_refusal({"merge-lora", "--model", path("wan"), "--output", path("new")},
                 "--lora: missing");
  expect_refusal({"merge-lora", "--model", path("wan"), "--output", path("new"), "--lora",
                  path("wan/Wan2.1_VAE.safetensors")},
                 "have no name of a LoRA");
  expect_refusal({"make-random", "--output", path("new")},
                 "--size: found \"\", expected 14b or 1.3b");
  expect_refusal(
      {"make-random", "--size", "1.3b", "--part", "vae", "--part", "vae", "--output", path("new")},
      "found vae twice");
  expect_refusal({"make-random", "--size", "1.3b", "--output", path("wan")},
                 "exists, expected a new or an empty folder");
}

}  // namespace
}  // namespace ospnext
