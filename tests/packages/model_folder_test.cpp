// The parts of a model are found in every package layout. If one is missing, the message lists the
// places.
#include "packages/model_folder.h"

#include "io/readers/reader_support.h"
#include "io/weights.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class ModelFolder : public ReaderTest {
 protected:
  void touch(const std::vector<std::string>& names) const {
    for (const std::string& name : names) {
      write(name, "x");
    }
  }
  // What find_model_files reports of a part, below the folder.
  std::string weights(const ModelFiles& files, ModelPart part) const {
    return fs::relative(files.require(part).weights, folder_).string();
  }
  std::string config(const ModelFiles& files, ModelPart part) const {
    const auto& found = files.require(part).config;
    return found ? fs::relative(*found, folder_).string() : "";
  }
  ModelFiles find() const { return find_model_files({.model = folder_}); }
};

constexpr const char* kWanConfig = R"({"_class_name":"WanModel","ffn_dim":8960})";
constexpr const char* kOspConfig = R"({"_class_name":"OSPNextModel","ffn_dim":13824})";

TEST_F(ModelFolder, WanAiPackageIsRecognised) {
  touch({"diffusion_pytorch_model-00001-of-00002.safetensors",
         "diffusion_pytorch_model-00002-of-00002.safetensors",
         "diffusion_pytorch_model.safetensors.index.json", "models_t5_umt5-xxl-enc-bf16.pth",
         "Wan2.1_VAE.pth", "google/umt5-xxl/spiece.model", "google/umt5-xxl/tokenizer.json"});
  write("config.json", kWanConfig);
  const ModelFiles files = find();
  EXPECT_EQ(files.family, ModelFamily::kWanAi);
  EXPECT_EQ(weights(files, ModelPart::kTransformer),
            "diffusion_pytorch_model.safetensors.index.json");
  EXPECT_EQ(config(files, ModelPart::kTransformer), "config.json");
  EXPECT_EQ(weights(files, ModelPart::kTextEncoder), "models_t5_umt5-xxl-enc-bf16.pth");
  EXPECT_EQ(config(files, ModelPart::kTextEncoder), "");
  EXPECT_EQ(weights(files, ModelPart::kVae), "Wan2.1_VAE.pth");
  EXPECT_EQ(config(files, ModelPart::kVae), "");
  EXPECT_EQ(weights(files, ModelPart::kTokenizer), "google/umt5-xxl/spiece.model");
  EXPECT_EQ(files.generation_config, std::nullopt);
}

TEST_F(ModelFolder, DiffusersPackageIsRecognised) {
  write("model_index.json", R"({"_class_name":"WanPipeline"})");
  touch({"transformer/diffusion_pytorch_model.safetensors",
         "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors.index.json",
         "tokenizer/spiece.model"});
  write("transformer/config.json", R"({"ffn_dim":1})");
  write("vae/config.json", R"({"z_dim":16})");
  write("text_encoder/config.json", R"({"d_ff":10240})");
  write("generation_config.json", "{}");
  const ModelFiles files = find();
  EXPECT_EQ(files.family, ModelFamily::kDiffusers);
  EXPECT_EQ(weights(files, ModelPart::kTransformer),
            "transformer/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(config(files, ModelPart::kTransformer), "transformer/config.json");
  EXPECT_EQ(weights(files, ModelPart::kTextEncoder), "text_encoder/model.safetensors.index.json");
  EXPECT_EQ(config(files, ModelPart::kTextEncoder), "text_encoder/config.json");
  EXPECT_EQ(weights(files, ModelPart::kVae), "vae/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(config(files, ModelPart::kVae), "vae/config.json");
  EXPECT_EQ(weights(files, ModelPart::kTokenizer), "tokenizer/spiece.model");
  EXPECT_EQ(files.generation_config, folder_ / "generation_config.json");
}

TEST_F(ModelFolder, OspNextPackageIsRecognised) {
  touch({"ema_model_state_dict.pt", "Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth",
         "google/umt5-xxl/spiece.model"});
  ModelFiles files = find();  // as published: no config.json
  EXPECT_EQ(files.family, ModelFamily::kOspNext);
  EXPECT_EQ(weights(files, ModelPart::kTransformer), "ema_model_state_dict.pt");
  EXPECT_EQ(weights(files, ModelPart::kVae), "Wan2.1_VAE.pth");
  fs::remove(folder_ / "ema_model_state_dict.pt");
  touch({"want2v_14b.pt"});
  write("config.json", kOspConfig);
  files = find();  // weights of any name with a config of the class
  EXPECT_EQ(files.family, ModelFamily::kOspNext);
  EXPECT_EQ(weights(files, ModelPart::kTransformer), "want2v_14b.pt");
  EXPECT_EQ(config(files, ModelPart::kTransformer), "config.json");
  fs::rename(folder_ / "want2v_14b.pt", folder_ / "diffusion_pytorch_model.safetensors");
  files = find();  // as save_pretrained writes it
  EXPECT_EQ(files.family, ModelFamily::kOspNext);
  EXPECT_EQ(weights(files, ModelPart::kTransformer), "diffusion_pytorch_model.safetensors");
}

TEST_F(ModelFolder, MissingPartIsAnErrorOnlyWhenAskedFor) {
  touch({"diffusion_pytorch_model.safetensors"});
  const ModelFiles files = find();
  EXPECT_TRUE(files.has(ModelPart::kTransformer));
  EXPECT_FALSE(files.has(ModelPart::kVae));
  expect_refused([&] { files.require(ModelPart::kVae); }, folder_,
                 "found no VAE, looked for vae/, Wan2.1_VAE.pth, Wan2.1_VAE.safetensors: name it "
                 "with `vae`");
  expect_refused([&] { files.require(ModelPart::kTokenizer); }, folder_,
                 "looked for google/umt5-xxl/spiece.model, tokenizer/spiece.model, spiece.model");
  const ModelFiles nothing = find_model_files({});
  expect_refused([&] { nothing.require(ModelPart::kTransformer); }, "the transformer is needed",
                 "`transformer`");
}

TEST_F(ModelFolder, OwnPathsGoBeforeThePackage) {
  touch({"package/transformer/diffusion_pytorch_model.safetensors",
         "package/vae/diffusion_pytorch_model.safetensors", "single/wan_2.1_vae.safetensors",
         "wan/Wan2.1_VAE.pth", "wan/diffusion_pytorch_model.safetensors", "spiece.model"});
  write("wan/config.json", kWanConfig);
  ModelPaths paths{.model = folder_ / "package"};
  paths.vae = folder_ / "single" / "wan_2.1_vae.safetensors";
  paths.tokenizer = folder_ / "spiece.model";
  ModelFiles files = find_model_files(paths);
  EXPECT_EQ(weights(files, ModelPart::kVae), "single/wan_2.1_vae.safetensors");
  EXPECT_EQ(weights(files, ModelPart::kTokenizer), "spiece.model");
  EXPECT_EQ(weights(files, ModelPart::kTransformer),
            "package/transformer/diffusion_pytorch_model.safetensors");
  paths.vae = folder_ / "wan";  // a whole package: its VAE, without the transformer's config
  files = find_model_files(paths);
  EXPECT_EQ(weights(files, ModelPart::kVae), "wan/Wan2.1_VAE.pth");
  EXPECT_EQ(config(files, ModelPart::kVae), "");
  paths.vae = folder_ / "package" / "vae";  // a folder of this part
  files = find_model_files(paths);
  EXPECT_EQ(weights(files, ModelPart::kVae), "package/vae/diffusion_pytorch_model.safetensors");
}

TEST_F(ModelFolder, PathsThatAreNotThereAreNamedWithTheirFlag) {
  EXPECT_THROW(find_model_files({.model = folder_ / "none"}), InputError);
  const fs::path one = write("a.safetensors", safetensors_bytes("{}"));
  expect_refused([&] { find_model_files({.model = one}); }, "`model`",
                 "expected a directory, or a file with all parts, found a file of one");
  expect_refused([&] { find_model_files({.model = write("a.gguf", "GGUF")}); }, folder_ / "a.gguf",
                 "this is a GGUF file");
  const ModelFiles files = find_model_files({.vae = folder_ / "none"});
  expect_refused([&] { files.require(ModelPart::kVae); }, "`vae` " + (folder_ / "none").string(),
                 "no such file");
}

TEST_F(ModelFolder, SeveralCandidatesAreRefusedByName) {
  touch({"a.pt", "b.pt", "my_vae.pth"});
  const ModelFiles files = find();
  EXPECT_EQ(weights(files, ModelPart::kVae), "my_vae.pth");
  expect_refused([&] { files.require(ModelPart::kTransformer); }, folder_,
                 "found 2, such as a.pt and b.pt: name one with `transformer`");
}

TEST_F(ModelFolder, IndexesOfAnyNameAreFoundInAFlatFolder) {
  touch({"wan-1.safetensors", "wan-2.safetensors", "wan.safetensors.index.json",
         "umt5_xxl.bin.index.fp16.json", "umt5_xxl-1.bin", "umt5_xxl-2.bin",
         "my_vae-00001-of-00002.safetensors", "my_vae-00002-of-00002.safetensors"});
  const ModelFiles files = find();
  EXPECT_EQ(weights(files, ModelPart::kTransformer), "wan.safetensors.index.json");
  EXPECT_EQ(weights(files, ModelPart::kTextEncoder), "umt5_xxl.bin.index.fp16.json");
  EXPECT_EQ(weights(files, ModelPart::kVae), "my_vae-00001-of-00002.safetensors");
  EXPECT_EQ(files.family, ModelFamily::kParts);
}

TEST_F(ModelFolder, NamesThatBeginWithADotAreNoWeights) {
  touch({"wan.safetensors", "._wan.safetensors", "wan_vae.safetensors", "._wan_vae.safetensors",
         ".DS_Store"});
  const ModelFiles files = find();
  EXPECT_EQ(weights(files, ModelPart::kTransformer), "wan.safetensors");
  EXPECT_EQ(weights(files, ModelPart::kVae), "wan_vae.safetensors");
}

TEST_F(ModelFolder, CacheOfAHubPointsToItsSnapshots) {
  touch({"refs/main", "blobs/99", "snapshots/1f2e/model_index.json"});
  const ModelFiles files = find();
  for (const ModelPart part : {ModelPart::kTransformer, ModelPart::kTokenizer}) {
    expect_refused([&] { files.require(part); }, folder_, "snapshots/1f2e");
  }
  const ModelFiles own = find_model_files({.vae = folder_});
  expect_refused([&] { own.require(ModelPart::kVae); }, folder_, "snapshots/1f2e");
}

TEST_F(ModelFolder, TextEncoderBringsItsOwnTokenizer) {
  const std::string proto = "sentencepiece bytes";
  const fs::path encoder = folder_ / "umt5_xxl_fp16.safetensors";
  save_safetensors(
      encoder, {{"shared.weight", torch::zeros({2, 2})},
                {"spiece_model", torch::tensor(std::vector<uint8_t>(proto.begin(), proto.end()))}});
  const ModelFiles files = find_model_files({.text_encoder = encoder});
  EXPECT_EQ(files.require(ModelPart::kTokenizer).weights, encoder);
  EXPECT_EQ(read_tokenizer_bytes(encoder), proto);
  EXPECT_EQ(read_tokenizer_bytes(write("spiece.model", proto)), proto);
  const ModelFiles other =
      find_model_files({.text_encoder = encoder, .tokenizer = folder_ / "spiece.model"});
  EXPECT_EQ(other.require(ModelPart::kTokenizer).weights, folder_ / "spiece.model");
  const fs::path plain = folder_ / "plain.safetensors";
  save_safetensors(plain, {{"shared.weight", torch::zeros({2, 2})}});
  expect_refused([&] { read_tokenizer_bytes(plain); }, plain, "spiece_model");
}

TEST_F(ModelFolder, BrokenConfigIsReportedWithItsName) {
  touch({"transformer/diffusion_pytorch_model.safetensors"});
  write("transformer/config.json", "{");
  const ModelFiles files = find();
  expect_refused([&] { files.require(ModelPart::kTransformer); },
                 folder_ / "transformer" / "config.json", "expected JSON");
  EXPECT_FALSE(files.has(ModelPart::kTransformer));
  EXPECT_THROW(files.find(ModelPart::kTransformer), InputError);  // it is there, and broken
  EXPECT_EQ(files.find(ModelPart::kVae), nullptr);
}

TEST_F(ModelFolder, ConfigThatIsNoObjectIsRefused) {
  touch({"transformer/diffusion_pytorch_model.safetensors", "wan/a.safetensors"});
  for (const auto& [text, type] : std::vector<std::pair<std::string, std::string>>{
           {"[]", "array"}, {"\"ffn_dim\"", "string"}, {"3", "number"}, {"null", "null"}}) {
    const fs::path config = write("transformer/config.json", text);
    const ModelFiles files = find();
    expect_refused([&] { files.require(ModelPart::kTransformer); }, config,
                   "expected a JSON object, found " + type);
    const fs::path flat = write("wan/config.json", text);
    expect_refused([&] { find_model_files({.model = folder_ / "wan"}); }, flat,
                   "expected a JSON object, found " + type);
  }
}

}  // namespace
}  // namespace ospnext
