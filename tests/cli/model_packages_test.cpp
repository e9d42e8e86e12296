// Commands on unusual packages: packages with more than a model of one transformer, all-in-one
// files, and indexes that leave tensors out.
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/weights.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Tensors = std::map<std::string, at::Tensor>;

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
  // Runs the transformer with the given flags. Returns its output and the text on standard error.
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
  // The tiny model in one file. Each part has its own prefix, as in ComfyUI's files.
  void write_all_in_one() const {
    write_tiny_wan_model(folder_ / "wan");
    run({"convert", "--model", path("wan"), "--layout", "single-file", "--output", path("parts")});
    Tensors all{{"text_encoders.umt5xxl.logit_scale", torch::tensor(4.6F)}};
    const auto add = [&](const std::string& file, const std::string& prefix) {
      for (const auto& [name, tensor] : read_tensors(folder_ / "parts" / file)) {
        all[(name == "spiece_model" ? "text_encoders." : prefix) + name] = tensor;
      }
    };
    add("transformer.safetensors", "model.diffusion_model.");
    add("umt5_xxl.safetensors", "text_encoders.umt5xxl.transformer.");
    add("wan_2.1_vae.safetensors", "first_stage_model.");
    save_safetensors(path("all.safetensors"), all);
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

TEST_F(ModelPackages, AllInOneFileIsAModel) {
  write_all_in_one();
  const json found = inspected("all.safetensors");
  EXPECT_EQ(found["kind"], "model");
  EXPECT_EQ(found["layout"], "single-file");
  EXPECT_EQ(found["missing"], json::array());
  const json apart = inspected("parts");
  for (size_t i = 0; i < 3; ++i) {
    const json& part = found["parts"][i];
    EXPECT_EQ(part["kind"], apart["parts"][i]["kind"]);
    EXPECT_EQ(part["parameters"], apart["parts"][i]["parameters"]);
    EXPECT_EQ(part["unused"], json::array());
    EXPECT_FALSE(part.contains("problem")) << part["problem"];
  }
  EXPECT_EQ(found["parts"][0]["bytes"], apart["parts"][0]["bytes"]);
  EXPECT_EQ(found["parts"][2]["bytes"], apart["parts"][2]["bytes"]);
  EXPECT_EQ(found["parts"][1]["tokenizer_inside"], true);
  const at::Tensor expected = velocity({"--model", path("wan")}).first;
  for (const char* flag : {"--model", "--transformer"}) {
    const auto [value, err] = velocity({flag, path("all.safetensors")});
    EXPECT_TRUE(value.equal(expected)) << flag;
    EXPECT_EQ(err.find("warning"), std::string::npos) << err;
  }
}

TEST_F(ModelPackages, AllInOneFileIsTakenApartByConvert) {
  write_all_in_one();
  const Outcome outcome = run(
      {"convert", "--model", path("all.safetensors"), "--layout", "wan", "--output", path("new")});
  EXPECT_EQ(outcome.err.find("warning"), std::string::npos) << outcome.err;
  for (const char* file : {"diffusion_pytorch_model.safetensors", "Wan2.1_VAE.safetensors",
                           "models_t5_umt5-xxl-enc-bf16.safetensors"}) {
    const Tensors written = read_tensors(folder_ / "new" / file);
    const Tensors before = read_tensors(folder_ / "wan" / file);
    ASSERT_EQ(written.size(), before.size()) << file;
    for (const auto& [name, tensor] : before) {
      EXPECT_TRUE(written.at(name).equal(tensor)) << file << ": " << name;
    }
  }
  constexpr const char* kTokenizer = "google/umt5-xxl/spiece.model";
  EXPECT_TRUE(file_text(folder_ / "new" / kTokenizer) == file_text(folder_ / "wan" / kTokenizer));
  fs::create_directory(folder_ / "folder");
  fs::rename(folder_ / "all.safetensors", folder_ / "folder/wan.safetensors");
  EXPECT_EQ(inspected("folder")["parts"].size(), 3U);
  const auto encode = [&](const Arguments& model) {
    Arguments arguments{"stage", "encode-text", "--prompt", "a red ball", "--output", path("text")};
    arguments.insert(arguments.end(), model.begin(), model.end());
    run(arguments);
    return read_tensors(path("text")).at("embeddings");
  };
  const std::string file = path("folder/wan.safetensors");
  EXPECT_TRUE(encode({"--text-encoder", file}).equal(encode({"--model", path("wan")})));
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
  EXPECT_TRUE(
      refuses(run_here(convert),
              "its shard \"diffusion_pytorch_model-00002-of-00002.safetensors\" is not there"));
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
