// What commands make of packages that say or hold more than a model of one transformer,
// and of indexes that leave tensors out.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/weights.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class ModelPackages : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  Outcome run(const Arguments& arguments) const {
    const Outcome outcome = run_here(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  }
  json inspected(const std::string& name) const {
    return json::parse(run({"inspect", path(name), "--json"}).out);
  }
  // The transformer's answer, by flags that name it, and what was said on standard error.
  std::pair<at::Tensor, std::string> velocity(const Arguments& model) const {
    save_safetensors(path("in.safetensors"), {{"latent", torch::ones({1, 16, 1, 4, 4})},
                                              {"text", torch::ones({1, 512, 32})},
                                              {"timestep", torch::tensor({500.0F})}});
    Arguments arguments{
        "stage", "denoise", "--input", path("in.safetensors"), "--output", path("out.safetensors")};
    arguments.insert(arguments.end(), model.begin(), model.end());
    const std::string err = run(arguments).err;
    return {read_tensors(path("out.safetensors")).at("velocity"), err};
  }
  const TemporaryFolder folder_;
};

TEST_F(ModelPackages, OfOtherPipelinesAreRefusedByEveryCommand) {
  write_tiny_diffusers_model(folder_ / "m");
  write_file(folder_ / "m/model_index.json",
             R"({"_class_name": "WanPipeline", "boundary_ratio": 0.875,
                 "transformer_2": ["diffusers", "WanTransformer3DModel"]})");
  const std::string model = path("m");
  const std::string out = path("out");
  for (const Arguments& arguments : std::vector<Arguments>{
           {"generate", "--model", model, "--prompt", "a", "--output", path("a.y4m")},
           {"inspect", model},
           {"convert", "--model", model, "--layout", "wan", "--output", out},
           {"quantize", "--model", model, "--output", out},
           {"merge-lora", "--model", model, "--lora", path("l"), "--output", out},
           {"eval", "--model", model},
           {"stage", "encode-text", "--model", model, "--prompt", "a", "--output", out}}) {
    EXPECT_TRUE(refuses(run_here(arguments), model + "/model_index.json: transformer_2: found "))
        << arguments.front();
  }
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"m"});
  fs::remove(folder_ / "m/model_index.json");
  fs::rename(folder_ / "m/transformer", folder_ / "m/low_noise_model");
  EXPECT_TRUE(refuses(run_here({"inspect", model}), "low_noise_model"));
}

TEST_F(ModelPackages, PartSetToNothingIsNotThere) {
  write_tiny_diffusers_model(folder_ / "m");
  const at::Tensor before = velocity({"--model", path("m")}).first;
  write_file(folder_ / "m/model_index.json",
             R"({"_class_name": "WanPipeline", "boundary_ratio": null, "expand_timesteps": false,
                 "transformer_2": [null, null]})");
  EXPECT_TRUE(velocity({"--model", path("m")}).first.equal(before));
  EXPECT_EQ(inspected("m")["parts"].size(), 3U);
}

TEST_F(ModelPackages, TensorsThatAnIndexLeavesOutAreNamedOnce) {
  write_tiny_wan_model(folder_ / "wan");
  run({"convert", "--model", path("wan"), "--layout", "wan", "--shard-size", "0.0004", "--output",
       path("m")});
  const at::Tensor expected = velocity({"--model", path("m")}).first;
  const fs::path file = folder_ / "m/diffusion_pytorch_model.safetensors.index.json";
  json index = json::parse(file_text(file));
  index["weight_map"].erase("blocks.1.ffn.2.bias");
  write_file(file, index.dump());
  const std::string warning =
      file.string() +
      ": its shards hold 1 tensor(s) that it does not name, the first is \"blocks.1.ffn.2.bias\"";
  const auto [value, err] = velocity({"--model", path("m")});
  EXPECT_TRUE(value.equal(expected));  // it is used
  const size_t first = err.find(warning);
  EXPECT_NE(first, std::string::npos) << err;
  EXPECT_EQ(err.find(warning, first + 1), std::string::npos) << err;
  EXPECT_EQ(inspected("m")["parts"][0]["unlisted"], json({"blocks.1.ffn.2.bias"}));
  const std::string said =
      run({"convert", "--model", path("m"), "--layout", "diffusers", "--output", path("d")}).err;
  EXPECT_NE(said.find(warning), std::string::npos) << said;
}

TEST_F(ModelPackages, PartThatIsBrokenIsNotLeftOutByConvert) {
  write_tiny_diffusers_model(folder_ / "m");
  write_file(folder_ / "m/transformer/config.json", "[]");
  const Arguments convert{"convert", "--model",  path("m"), "--layout",
                          "wan",     "--output", path("n")};
  EXPECT_TRUE(refuses(run_here(convert), "transformer/config.json: expected a JSON object"));
  fs::remove(folder_ / "m/transformer/config.json");
  fs::rename(folder_ / "m/transformer/diffusion_pytorch_model.safetensors",
             folder_ / "m/transformer/diffusion_pytorch_model-00001-of-00002.safetensors");
  EXPECT_TRUE(refuses(run_here(convert),
                      "diffusion_pytorch_model-00002-of-00002.safetensors: cannot open"));
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"m"});
}

TEST_F(ModelPackages, PointerInThePlaceOfTheTokenizerIsNamed) {
  write_tiny_wan_model(folder_ / "wan");
  write_file(folder_ / "wan/google/umt5-xxl/spiece.model",
             "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4548313\n");
  EXPECT_TRUE(refuses(run_here({"stage", "encode-text", "--model", path("wan"), "--prompt", "a",
                                "--output", path("out")}),
                      "spiece.model: this is a Git LFS pointer"));
}

}  // namespace
}  // namespace ospnext
