// Models keep their weights through every layout. A model that a layout cannot express is refused.
#include "packages/convert_model.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/fields.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, at::Tensor>;

constexpr ModelFamily kLayouts[] = {ModelFamily::kWanAi, ModelFamily::kDiffusers,
                                    ModelFamily::kOspNext, ModelFamily::kParts};

class Conversions : public ::testing::Test {
 protected:
  Conversions() {
    write_tiny_wan_model(source_);
    // weights of several dtypes, as real packages mix them
    Tensors vae = read_tensors(source_ / "Wan2.1_VAE.safetensors");
    for (auto& [name, weight] : vae) {
      weight = weight.to(name.ends_with("bias") ? at::kFloat : at::kHalf);
    }
    save_safetensors(source_ / "Wan2.1_VAE.safetensors", vae);
  }

  std::vector<WrittenPart> convert(const fs::path& from, const std::string& to,
                                   const Conversion& conversion,
                                   const std::vector<LoraChoice>& loras = {}) const {
    Progress progress(nullptr, false);
    const CancellationToken never;
    return convert_model(find_model_files({.model = from, .loras = loras}), conversion,
                         folder_ / to, progress, never);
  }
  std::string refusal(const fs::path& from, const Conversion& conversion,
                      const std::vector<LoraChoice>& loras = {}) const {
    const auto before = folder_.names();
    try {
      convert(from, "refused", conversion, loras);
    } catch (const InputError& error) {
      EXPECT_EQ(folder_.names(), before);
      return error.what();
    }
    return "";
  }
  static Tensors part(const fs::path& model, ModelPart part) {
    return read_tensors(find_model_files({.model = model}).require(part).weights);
  }
  static void expect_same_bytes(const Tensors& actual, const Tensors& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (const auto& [name, tensor] : expected) {
      EXPECT_TRUE(same_bits(actual.at(name), tensor)) << name;
    }
  }

  const TemporaryFolder folder_;
  const fs::path source_ = folder_ / "source";
  static constexpr int64_t kNoLimit = int64_t{1} << 40;
};

TEST_F(Conversions, EveryLayoutAndBackKeepsEveryByte) {
  for (const ModelFamily layout : kLayouts) {
    const std::string name = layout_name(layout);
    const auto written = convert(source_, name, {layout, {}, 400'000});
    EXPECT_EQ(written.size(), 3U);
    const ModelFiles found = find_model_files({.model = folder_ / name});
    EXPECT_EQ(found.family, layout) << name;
    for (size_t i = 0; i < kModelParts; ++i) {
      EXPECT_TRUE(found.has(static_cast<ModelPart>(i))) << name << i;
    }
    for (const WrittenPart& part : written) {
      EXPECT_TRUE(fs::exists(folder_ / name / part.file)) << part.file;
    }
    convert(folder_ / name, name + "_back", {ModelFamily::kWanAi, {}, kNoLimit});
    for (const ModelPart one :
         {ModelPart::kTransformer, ModelPart::kTextEncoder, ModelPart::kVae}) {
      expect_same_bytes(part(folder_ / (name + "_back"), one), part(source_, one));
    }
    EXPECT_EQ(file_text(folder_ / (name + "_back") / "google/umt5-xxl/spiece.model"),
              file_text(source_ / "google/umt5-xxl/spiece.model"));
    EXPECT_TRUE(fs::exists(folder_ / name / "generation_config.json"));
  }
}

TEST_F(Conversions, LayoutsHaveTheirNamesShardsAndConfigs) {
  convert(source_, "d", {ModelFamily::kDiffusers, {}, 400'000});
  EXPECT_TRUE(fs::exists(folder_ / "d/transformer/diffusion_pytorch_model.safetensors.index.json"));
  EXPECT_TRUE(
      part(folder_ / "d", ModelPart::kTransformer).contains("blocks.1.attn2.to_out.0.bias"));
  EXPECT_TRUE(part(folder_ / "d", ModelPart::kTextEncoder)
                  .contains("encoder.block.0.layer.1.DenseReluDense.wi_0.weight"));
  EXPECT_TRUE(
      part(folder_ / "d", ModelPart::kVae).contains("decoder.up_blocks.0.resnets.0.conv1.weight"));
  for (const char* file :
       {"model_index.json", "tokenizer/tokenizer_config.json", "scheduler/scheduler_config.json",
        "vae/config.json", "text_encoder/config.json"}) {
    EXPECT_TRUE(read_json_file(folder_ / "d" / file).is_object()) << file;
  }
  EXPECT_EQ(read_json_file(folder_ / "d/transformer/config.json")["_class_name"],
            "WanTransformer3DModel");
  convert(source_, "s", {ModelFamily::kParts, {}, 400'000});
  EXPECT_TRUE(part(folder_ / "s", ModelPart::kTextEncoder).contains("spiece_model"));
  EXPECT_FALSE(fs::exists(folder_ / "s/config.json"));
  convert(source_, "o", {ModelFamily::kOspNext, {}, kNoLimit});
  EXPECT_EQ(read_json_file(folder_ / "o/config.json")["_class_name"], "OSPNextModel");
}

TEST_F(Conversions, WeightsAreRoundedOnceToTheDtypeAskedFor) {
  convert(source_, "h", {ModelFamily::kWanAi, DType::kBF16, kNoLimit});
  for (const ModelPart one : {ModelPart::kTransformer, ModelPart::kTextEncoder, ModelPart::kVae}) {
    Tensors expected = part(source_, one);
    for (auto& [name, weight] : expected) {
      weight = weight.to(at::kBFloat16);
    }
    expect_same_bytes(part(folder_ / "h", one), expected);
  }
}

TEST_F(Conversions, ALoraIsMergedAsLoadingMergesIt) {
  save_safetensors(folder_ / "lora.safetensors",
                   {{"diffusion_model.blocks.1.ffn.2.lora_A.weight", torch::randn({3, 64})},
                    {"diffusion_model.blocks.1.ffn.2.lora_B.weight", torch::randn({128, 3})},
                    {"diffusion_model.head.diff_m", torch::randn({1, 2, 128})}});
  const std::vector<LoraChoice> loras{{folder_ / "lora.safetensors", 0.5}};
  convert(source_, "merged", {ModelFamily::kDiffusers, {}, kNoLimit}, loras);
  const auto load = [](const ModelPaths& paths) {
    return load_transformer(find_model_files(paths).require(ModelPart::kTransformer), {});
  };
  Transformer merged = load({.model = folder_ / "merged"});
  Transformer loaded = load({.model = source_, .loras = loras});
  Transformer plain = load({.model = source_});
  const auto expected = loaded->named_parameters();
  for (const auto& entry : merged->named_parameters()) {
    EXPECT_TRUE(entry.value().equal(expected[entry.key()])) << entry.key();
    const bool changed = entry.key() == "blocks.1.ffn.2.weight" || entry.key() == "head.modulation";
    EXPECT_EQ(entry.value().equal(plain->named_parameters()[entry.key()]), !changed) << entry.key();
  }
}

TEST_F(Conversions, ASparseModelGoesWhereItCanBeSaid) {
  TransformerConfig sparse = tiny_transformer_config();
  sparse.num_layers = 8;
  sparse.skiparse_model_type = "dual_end";
  sparse.num_full_blocks = 4;
  const fs::path model = folder_ / "sparse";
  fs::create_directories(model);
  save_safetensors(model / "diffusion_pytorch_model.safetensors",
                   random_weights(*Transformer(sparse), 4));
  nlohmann::json config = fields_to_json(sparse);
  config["_class_name"] = "OSPNextModel";
  write_file(model / "config.json", config.dump());
  for (const ModelFamily layout : {ModelFamily::kWanAi, ModelFamily::kParts}) {
    EXPECT_EQ(refusal(model, {layout, {}, kNoLimit}),
              "`layout` " + std::string(layout_name(layout)) +
                  ": its files cannot say the transformer's num_full_blocks 4, "
                  "skiparse_model_type \"dual_end\"");
  }
  for (const ModelFamily layout : {ModelFamily::kOspNext, ModelFamily::kDiffusers}) {
    const std::string name = layout_name(layout);
    convert(model, name, {layout, {}, kNoLimit});
    expect_same_bytes(part(folder_ / name, ModelPart::kTransformer),
                      part(model, ModelPart::kTransformer));
    const auto read = read_transformer_config(
        find_model_files({.model = folder_ / name}).require(ModelPart::kTransformer));
    EXPECT_EQ(fields_to_json(read), fields_to_json(sparse));
  }
}

TEST_F(Conversions, AVaeWithItsOwnStatisticsNeedsAConfig) {
  convert(source_, "d", {ModelFamily::kDiffusers, {}, kNoLimit});
  VaeConfig own = tiny_vae_config();
  own.latents_mean[3] = 0.125;
  write_file(folder_ / "d/vae/config.json", fields_to_json(own).dump());
  EXPECT_NE(refusal(folder_ / "d", {ModelFamily::kParts, {}, kNoLimit})
                .find("`layout` single-file: its files cannot say the VAE's latents_mean"),
            std::string::npos);
}

TEST_F(Conversions, AConfigThatContradictsItsWeightsIsRefusedBeforeAnythingIsMadeOfIt) {
  convert(source_, "d", {ModelFamily::kDiffusers, {}, kNoLimit});
  const auto refused = [&](const std::string& file, const std::string& field, int64_t value) {
    const std::string good = file_text(folder_ / "d" / file);
    nlohmann::json config = nlohmann::json::parse(good);
    config[field] = value;
    write_file(folder_ / "d" / file, config.dump());
    EXPECT_NE(refusal(folder_ / "d", {ModelFamily::kWanAi, {}, kNoLimit})
                  .find(field + ": found " + std::to_string(value) + ", but "),
              std::string::npos);
    write_file(folder_ / "d" / file, good);
  };
  refused("vae/config.json", "base_dim", 1024);
  refused("vae/config.json", "num_res_blocks", 16);
  refused("text_encoder/config.json", "d_model", 400'000);
}

TEST_F(Conversions, Refusals) {
  const Conversion plain{ModelFamily::kDiffusers, {}, kNoLimit};
  // broken weights, found after other parts were written
  Tensors vae = part(source_, ModelPart::kVae);
  vae["decoder.conv1.bias"][0] = NAN;
  save_safetensors(source_ / "Wan2.1_VAE.safetensors", vae);
  EXPECT_NE(refusal(source_, plain).find("\"decoder.conv1.bias\" holds NaN"), std::string::npos);
  vae.erase("decoder.conv1.bias");
  save_safetensors(source_ / "Wan2.1_VAE.safetensors", vae);
  EXPECT_NE(refusal(source_, plain).find("tensors are missing: decoder.conv1.bias"),
            std::string::npos);
  // a number that float16 cannot hold
  Tensors transformer = part(source_, ModelPart::kTransformer);
  transformer["head.head.bias"][0] = 1e6;
  save_safetensors(source_ / "diffusion_pytorch_model.safetensors", transformer);
  fs::remove(source_ / "Wan2.1_VAE.safetensors");
  EXPECT_NE(refusal(source_, {ModelFamily::kWanAi, DType::kF16, kNoLimit}).find("(as Half)"),
            std::string::npos);
  // an fp8 weight that a LoRA changes has no dtype to keep
  transformer["blocks.0.ffn.0.weight"] =
      transformer["blocks.0.ffn.0.weight"].to(at::kFloat8_e4m3fn);
  save_safetensors(source_ / "diffusion_pytorch_model.safetensors", transformer);
  save_safetensors(folder_ / "lora.safetensors",
                   {{"diffusion_model.blocks.0.ffn.0.diff", torch::zeros({64, 128})}});
  EXPECT_NE(refusal(source_, plain, {{folder_ / "lora.safetensors", 1.0}})
                .find("is F8_E4M3 and a LoRA changes it: name the dtype to write with `dtype`"),
            std::string::npos);
  EXPECT_EQ(refusal(source_, plain), "");
  // the folder is there by now
  EXPECT_NE(refusal(source_, plain).find("exists, expected a new or an empty folder"),
            std::string::npos);
  EXPECT_NE(refusal(folder_ / "none", plain).find("no such directory"), std::string::npos);
}

TEST_F(Conversions, ComfysTextEncoderBringsItsTokenizerAndMeansItsScales) {
  const ModelFiles files =
      find_model_files({.text_encoder = fixture_path("formats/umt5_fp8.safetensors")});
  const Tensors expected = read_tensors(fixture_path("formats/umt5_expected.safetensors"));
  const torch::NoGradGuard no_grad;
  Umt5Encoder encoder = load_text_encoder(files.require(ModelPart::kTextEncoder), {});
  EXPECT_LT(relative_max(encoder->forward(expected.at("ids"), expected.at("mask")),
                         expected.at("embeddings")),
            1e-5);  // order of summation
  EXPECT_GT(load_tokenizer(files.require(ModelPart::kTokenizer)).vocab_size(), 300);
  Progress progress(nullptr, false);
  const CancellationToken never;
  EXPECT_THROW(
      convert_model(files, {ModelFamily::kDiffusers, {}, kNoLimit}, folder_ / "x", progress, never),
      InputError);  // scaled fp8 has no dtype to keep
  convert_model(files, {ModelFamily::kDiffusers, DType::kF32, kNoLimit}, folder_ / "x", progress,
                never);
  Umt5Encoder converted = load_text_encoder(
      find_model_files({.model = folder_ / "x"}).require(ModelPart::kTextEncoder), {});
  const auto weights = encoder->named_parameters();
  for (const auto& entry : converted->named_parameters()) {
    EXPECT_TRUE(entry.value().equal(weights[entry.key()])) << entry.key();
  }
}

}  // namespace
}  // namespace ospnext
