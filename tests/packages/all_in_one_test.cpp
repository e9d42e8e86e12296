// A file with all parts of a model is recognised and split by the prefixes of its tensor names.
#include "packages/all_in_one.h"

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

class AllInOne : public ReaderTest {
 protected:
  // A file of one-byte tensors. The value of each is its index.
  fs::path write_tensors(const std::string& file, const std::vector<std::string>& names) const {
    std::string header;
    std::string data;
    for (const std::string& name : names) {
      const std::string begin = std::to_string(data.size());
      data += static_cast<char>(data.size());
      header += (header.empty() ? "{\"" : ",\"") + name +
                R"(":{"dtype":"U8","shape":[1],"data_offsets":[)" + begin + "," +
                std::to_string(data.size()) + "]}";
    }
    return write(file, safetensors_bytes(header + "}", data));
  }
  fs::path write_whole(const std::string& file) const {
    return write_tensors(file, {"model.diffusion_model.head.modulation", "vae.conv1.weight",
                                "text_encoders.umt5xxl.transformer.shared.weight",
                                "text_encoders.spiece_model", "text_encoders.umt5xxl.logit_scale"});
  }
  static std::vector<std::string> names_of(const PartFiles& files) {
    const Checkpoint checkpoint = open_part(files);
    std::vector<std::string> names;
    for (const auto& entry : checkpoint.tensors()) {
      names.push_back(entry.first);
    }
    return names;
  }
};

using Names = std::vector<std::string>;

TEST_F(AllInOne, PartsAreToldByTheBeginningsOfNames) {
  EXPECT_EQ(part_of_tensor("model.diffusion_model.blocks.0.x"), ModelPart::kTransformer);
  EXPECT_EQ(part_of_tensor("first_stage_model.conv1.bias"), ModelPart::kVae);
  EXPECT_EQ(part_of_tensor("vae.conv1.bias"), ModelPart::kVae);
  EXPECT_EQ(part_of_tensor("text_encoders.umt5xxl.transformer.scaled_fp8"),
            ModelPart::kTextEncoder);
  for (const char* name : {"text_encoders.spiece_model", "text_encoders.umt5xxl.spiece_model",
                           "text_encoders.umt5xxl.transformer.spiece_model"}) {
    EXPECT_EQ(part_of_tensor(name), ModelPart::kTokenizer) << name;
  }
  for (const char* name : {"blocks.0.x", "model.blocks.0.x", "spiece_model", "vae", "lora_vae.x"}) {
    EXPECT_EQ(part_of_tensor(name), std::nullopt) << name;
  }
}

TEST_F(AllInOne, IsAModelByItself) {
  const fs::path file = write_whole("all.safetensors");
  const ModelFiles files = find_model_files({.model = file});
  EXPECT_EQ(files.family, ModelFamily::kParts);
  EXPECT_EQ(names_of(files.require(ModelPart::kTransformer)),
            Names{"model.diffusion_model.head.modulation"});
  EXPECT_EQ(names_of(files.require(ModelPart::kTextEncoder)),
            Names{"text_encoders.umt5xxl.transformer.shared.weight"});
  EXPECT_EQ(names_of(files.require(ModelPart::kVae)), Names{"vae.conv1.weight"});
  EXPECT_EQ(files.require(ModelPart::kTokenizer).weights, file);
  EXPECT_EQ(read_tokenizer_bytes(file), "\3");
}

TEST_F(AllInOne, GivesEachPartThatIsNamedByItself) {
  const fs::path file = write_whole("all.safetensors");
  const ModelFiles files =
      find_model_files({.transformer = file, .text_encoder = file, .vae = file});
  EXPECT_EQ(names_of(files.require(ModelPart::kTransformer)),
            Names{"model.diffusion_model.head.modulation"});
  EXPECT_EQ(names_of(files.require(ModelPart::kVae)), Names{"vae.conv1.weight"});
  EXPECT_EQ(files.require(ModelPart::kTokenizer).weights, file);
}

TEST_F(AllInOne, IsFoundInAFolderBesideFilesOfParts) {
  const fs::path file = write_whole("wan_rapid.safetensors");
  const fs::path vae = write_tensors("my_vae.safetensors", {"conv1.weight"});
  const ModelFiles files = find_model_files({.model = folder_});
  EXPECT_EQ(files.require(ModelPart::kTransformer).weights, file);
  EXPECT_EQ(files.require(ModelPart::kTextEncoder).weights, file);
  EXPECT_EQ(files.require(ModelPart::kTokenizer).weights, file);
  EXPECT_EQ(files.require(ModelPart::kVae).weights, vae);
  EXPECT_EQ(names_of(files.require(ModelPart::kVae)), Names{"conv1.weight"});
}

TEST_F(AllInOne, WithoutAPartSaysSo) {
  const fs::path file = write_tensors("half.safetensors", {"model.diffusion_model.head.modulation",
                                                           "first_stage_model.conv1.bias"});
  const ModelFiles files = find_model_files({.model = file});
  EXPECT_EQ(names_of(files.require(ModelPart::kVae)), Names{"first_stage_model.conv1.bias"});
  expect_refused([&] { files.require(ModelPart::kTextEncoder); }, file,
                 "found no text encoder among the parts in this file: name it with `text_encoder`");
  const ModelFiles own = find_model_files({.text_encoder = file});
  expect_refused([&] { open_part(own.require(ModelPart::kTextEncoder)); }, file,
                 "expected a text encoder among the parts in this file, found transformer, VAE");
}

TEST_F(AllInOne, FileOfOnePartIsNone) {
  const fs::path file = write_tensors(
      "wan.safetensors", {"model.diffusion_model.head.modulation", "scaled_fp8", "spiece_model"});
  EXPECT_FALSE(is_all_in_one(open_checkpoint(file)));
  const ModelFiles files = find_model_files({.transformer = file});
  EXPECT_EQ(names_of(files.require(ModelPart::kTransformer)).size(), 3U);
}

TEST_F(AllInOne, QuantisedLayersGoWithTheirPart) {
  const auto layers_of = [&](const std::string& description) {
    const fs::path file = write(
        "all.safetensors",
        safetensors_bytes(
            R"({"__metadata__":{"_quantization_metadata":")" + description +
                R"("},)"
                R"("model.diffusion_model.a.weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                R"("vae.b.weight":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
            "xy"));
    const ModelFiles files = find_model_files({.model = file});
    return open_part(files.require(ModelPart::kVae)).metadata().at("_quantization_metadata");
  };
  EXPECT_EQ(layers_of(R"({\"layers\":{\"model.diffusion_model.a\":{},\"vae.b\":{\"x\":1}}})"),
            R"({"layers":{"vae.b":{"x":1}}})");
  EXPECT_EQ(layers_of(R"({\"layers\":{\"model.diffusion_model.a\":{}}})"), R"({"layers":{}})");
  EXPECT_EQ(layers_of("[]"), "[]");
  EXPECT_THROW(layers_of("{"), InputError);
}

TEST_F(AllInOne, TokenizerIsFoundAtEveryPlace) {
  for (const char* name :
       {"spiece_model", "text_encoders.spiece_model", "text_encoders.umt5xxl.spiece_model",
        "text_encoders.umt5xxl.transformer.spiece_model"}) {
    const fs::path file = write_tensors("a.safetensors", {"x", name});
    EXPECT_EQ(read_tokenizer_bytes(file), "\1") << name;
    EXPECT_TRUE(brings_tokenizer(file)) << name;
  }
  EXPECT_FALSE(brings_tokenizer(write_tensors("a.safetensors", {"x.spiece_model"})));
}

}  // namespace
}  // namespace ospnext
