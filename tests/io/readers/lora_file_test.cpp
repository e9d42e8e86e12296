// LoRA files: the layers that their names select, the source of alpha, and the configurations that
// are refused.
#include "io/readers/lora_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;
using Metadata = std::map<std::string, std::string>;

const std::string kQ = "blocks.0.self_attn.q";

// A pair of rank 2 for each layer, with PEFT's names.
Shapes pairs(const std::vector<std::string>& layers,
             const std::string& prefix = "diffusion_model.") {
  Shapes shapes;
  for (const std::string& layer : layers) {
    shapes[prefix + layer + ".lora_A.weight"] = {2, 3};
    shapes[prefix + layer + ".lora_B.weight"] = {4, 2};
  }
  return shapes;
}

class LoraFiles : public ReaderTest {
 protected:
  // Tensors of float32 zeros.
  std::filesystem::path save(const std::string& file, const Shapes& shapes,
                             const Metadata& metadata = {}) const {
    nlohmann::json header;
    size_t end = 0;
    for (const auto& [name, shape] : shapes) {
      const size_t begin = end;
      end += static_cast<size_t>(byte_count(shape, 4).value());
      header[name] = {{"dtype", "F32"}, {"shape", shape}, {"data_offsets", {begin, end}}};
    }
    if (!metadata.empty()) {
      header["__metadata__"] = metadata;
    }
    return write(file, safetensors_bytes(header.dump(), std::string(end, '\0')));
  }

  // A PEFT adapter with a pair of rank 2 for each layer, and this adapter_config.json.
  std::filesystem::path save_adapter(const std::string& config,
                                     const std::vector<std::string>& layers = {kQ}) const {
    write("adapter_config.json", config);
    save("adapter_model.safetensors", pairs(layers, "base_model.model."));
    return folder_;
  }

  // Scale by layer.
  static std::map<std::string, double> scales(const LoraFile& lora) {
    std::map<std::string, double> by_layer;
    for (const LoraChange& change : lora.changes) {
      by_layer[change.target.substr(0, change.target.rfind('.'))] = change.scale;
    }
    return by_layer;
  }
  static double scale(const std::filesystem::path& path) { return scales(open_lora(path)).at(kQ); }
  static std::string remarks(const std::filesystem::path& path) {
    std::string text;
    for (const std::string& remark : open_lora(path).remarks) {
      text += remark + "\n";
    }
    return text;
  }

  void expect_config_refused(const std::string& config, const std::string& what) const {
    const auto folder = save_adapter(config);
    expect_refused([&] { open_lora(folder); }, folder / "adapter_config.json", what);
  }
};

using AdapterConfigs = LoraFiles;

TEST_F(AdapterConfigs, ThatAskForAnotherSumAreRefusedByTheirKey) {
  for (const std::string entry :
       {R"("use_dora": true)", R"("use_qalora": true)", R"("use_bdlora": {"nblocks": 2})",
        R"("kasa_config": {"beta": 1})", R"("arrow_config": {"top_k": 3})",
        R"("alora_invocation_tokens": [3])", R"("fan_in_fan_out": true)",
        R"("layer_replication": [[0, 4], [2, 5]])", R"("modules_to_save": ["head"])",
        R"("target_parameters": ["modulation"])", R"("trainable_token_indices": [1])",
        R"("enable_lora": [true, false])", R"("bias": "all")", R"("bias": "lora_only")",
        R"("peft_type": "LOHA")"}) {
    const std::string key = entry.substr(1, entry.find('"', 1) - 1);
    expect_config_refused("{" + entry + "}", key + ": found ");
    expect_config_refused("{\"lora_alpha\": 2, " + entry + "}", key + ": found ");
    const auto file = save("m.safetensors", pairs({kQ}),
                           {{"lora_adapter_metadata", "{\"transformer." + entry.substr(1) + "}"}});
    expect_refused([&] { open_lora(file); }, file,
                   "metadata lora_adapter_metadata: " + key + ": found ");
  }
}

TEST_F(AdapterConfigs, ThatAreOffOrSayHowItWasTrainedAreLetThrough) {
  const std::string config = R"({"peft_type": "LORA", "lora_alpha": 6, "r": 2, "use_dora": false,
    "use_bdlora": null, "kasa_config": null, "arrow_config": null, "layer_replication": null,
    "modules_to_save": [], "target_parameters": null, "trainable_token_indices": null,
    "alora_invocation_tokens": null, "bias": "none", "lora_bias": false, "fan_in_fan_out": false,
    "enable_lora": null, "merge_weights": true, "rank_pattern": {}, "alpha_pattern": {},
    "auto_mapping": null, "peft_version": "0.21.2", "base_model_name_or_path": "a",
    "revision": null, "task_type": null, "inference_mode": true, "runtime_config": {}, "target_modules": ["q"],
    "exclude_modules": null, "layers_to_transform": [0], "layers_pattern": "blocks",
    "lora_dropout": 0.1, "ensure_weight_tying": false, "megatron_config": {"a": 1},
    "megatron_core": "megatron.core", "loftq_config": {"loftq_bits": 4}, "eva_config": {"rho": 2},
    "corda_config": {}, "lora_ga_config": null, "velora_config": {"scale": 1},
    "monteclora_config": {"num_samples": 8}, "qalora_group_size": 16, "use_qalora": false})";
  EXPECT_EQ(scale(save_adapter(config)), 3);
  EXPECT_EQ(remarks(folder_), "");
}

TEST_F(AdapterConfigs, OfInitializationsThatChangeTheModelAreRefused) {
  for (const std::string name :
       {"pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq", "lora_ga"}) {
    expect_config_refused(R"({"lora_alpha": 2, "init_lora_weights": ")" + name + "\"}",
                          "init_lora_weights: found \"" + name + "\", which belongs to changed");
  }
  for (const std::string value : {"\"some\"", "\"true\"", "1", "{}"}) {
    expect_config_refused(R"({"init_lora_weights": )" + value + "}", "init_lora_weights: found ");
  }
  for (const std::string value :
       {"true", "false", "null", "\"gaussian\"", "\"eva\"", "\"orthogonal\"", "\"mica\""}) {
    EXPECT_EQ(scale(save_adapter(R"({"lora_alpha": 4, "init_lora_weights": )" + value + "}")), 2)
        << value;
  }
}

TEST_F(AdapterConfigs, WithValuesOfAnotherTypeAreRefused) {
  expect_config_refused(R"({"use_rslora": "true"})",
                        "use_rslora: found \"true\", expected true or false");
  expect_config_refused(R"({"use_rslora": 1})", "use_rslora: found 1, expected true or false");
  expect_config_refused(R"({"lora_bias": "no"})", "lora_bias: found \"no\"");
  expect_config_refused(R"({"use_dora": "false"})", "use_dora: found \"false\"");
  expect_config_refused(R"({"lora_alpha": "16"})", "lora_alpha: found \"16\", expected a finite");
  expect_config_refused(R"({"lora_alpha": [16]})", "lora_alpha: found [16]");
  for (const std::string rank : {"\"2\"", "0", "-1", "2.5", "1e300", "true"}) {
    expect_config_refused("{\"r\": " + rank + "}", "r: found ");
  }
  expect_config_refused(R"({"alpha_pattern": [3]})",
                        "alpha_pattern: found [3], expected an object");
  expect_config_refused(R"({"alpha_pattern": {"q": "3"}})", "alpha_pattern \"q\": found \"3\"");
  expect_config_refused(R"({"rank_pattern": {"q": 1.5}})", "rank_pattern \"q\": found 1.5");
}

TEST_F(AdapterConfigs, UnknownKeysAreNamed) {
  const auto folder = save_adapter(R"({"lora_alpha": 4, "use_nora": true, "novelty": 1})");
  EXPECT_EQ(scale(folder), 2);
  EXPECT_EQ(remarks(folder), (folder / "adapter_config.json").string() +
                                 ": left out keys that are not known: \"use_nora\", \"novelty\"\n");
}

// Ordered objects look keys up one by one, so many keys would take too long.
TEST_F(AdapterConfigs, OfMoreThanTenThousandPartsAreRefused) {
  std::string keys;
  for (int i = 0; i < 5000; ++i) {
    keys += (keys.empty() ? "\"" : ", \"") + std::to_string(i) + "\": 1";
  }
  expect_config_refused("{" + keys + "}", "JSON holds more than 10000 parts");
}

TEST_F(AdapterConfigs, MayHaveALowestNoiseLevel) {
  const std::vector<std::string> layers = {kQ, "blocks.0.ffn.2", "blocks.11.cross_attn.q",
                                           "blocks.1.cross_attn.o"};
  const auto level = [&](const std::string& config) {
    return open_lora(save_adapter(config, layers)).lowest_noise_level;
  };
  EXPECT_EQ(level(R"({"lora_alpha": 4, "lowest_noise_level": 0.9})"), 0.9);
  EXPECT_EQ(remarks(folder_), "");
  EXPECT_EQ(level(R"({"lora_alpha": 4, "lowest_noise_level": 1})"), 1);
  EXPECT_EQ(level(R"({"lora_alpha": 4, "lowest_noise_level": null})"), 0);
  EXPECT_EQ(level(R"({"lora_alpha": 4})"), 0);
  for (const std::string metadata : {R"({"transformer.lowest_noise_level": 0.5})",
                                     R"({"lora_alpha": 4, "lowest_noise_level": 0.5})"}) {
    EXPECT_EQ(open_lora(save("m.safetensors", pairs({kQ}), {{"lora_adapter_metadata", metadata}}))
                  .lowest_noise_level,
              0.5)
        << metadata;
  }
  EXPECT_EQ(open_lora(save("m.safetensors", pairs({kQ}), {{"lowest_noise_level", "0.5"}}))
                .lowest_noise_level,
            0.5);
  for (const std::string wrong : {"1.5", "-0.1", "\"x\"", "true", "[0.5]"}) {
    expect_config_refused("{\"lowest_noise_level\": " + wrong + "}", "lowest_noise_level: found ");
  }
  expect_config_refused(R"({"lowest_noise_level": 1.5})",
                        "lowest_noise_level: found 1.5, expected a number from 0 to 1");
}

TEST_F(AdapterConfigs, WithALowestNoiseLevelAreForLayersThatSeeTheLatentAlone) {
  const std::string config = R"({"lora_alpha": 4, "lowest_noise_level": 0.9})";
  const auto refused = [&](const std::string& tensor) {
    const auto file = folder_ / "adapter_model.safetensors";
    expect_refused([&] { open_lora(folder_); }, file,
                   "tensor \"base_model.model." + tensor +
                       "\": found in a LoRA with lowest_noise_level, expected pairs of matrices "
                       "for self_attn, cross_attn.q, cross_attn.o and ffn alone");
  };
  for (const std::string layer :
       {"blocks.0.cross_attn.k", "blocks.0.cross_attn.v", "time_embedding.0", "text_embedding.2",
        "time_projection.1", "patch_embedding", "head.head"}) {
    save_adapter(config, {kQ, layer});
    refused(layer + ".lora_B.weight");
    save_adapter(R"({"lora_alpha": 4, "lowest_noise_level": 0})", {kQ, layer});
    EXPECT_EQ(open_lora(folder_).changes.size(), 2U) << layer;
  }
  for (const std::string difference : {"blocks.0.self_attn.q.diff_b", "blocks.0.norm3.diff"}) {
    save_adapter(config);
    Shapes shapes = pairs({kQ}, "base_model.model.");
    shapes["base_model.model." + difference] = {4};
    save("adapter_model.safetensors", shapes);
    refused(difference);
  }
}

TEST_F(AdapterConfigs, RankStabilizedOnesDivideByTheRoot) {
  EXPECT_DOUBLE_EQ(scale(save_adapter(R"({"lora_alpha": 3, "use_rslora": true})")),
                   3 / std::sqrt(2.0));
}

TEST_F(AdapterConfigs, OfDiffusersStandWithAndWithoutAPrefix) {
  const auto file = [&](const std::string& config) {
    return save("m.safetensors", pairs({kQ}), {{"lora_adapter_metadata", config}});
  };
  EXPECT_EQ(scale(file(R"({"transformer.lora_alpha": 6, "text_encoder.lora_alpha": 100})")), 3);
  EXPECT_EQ(scale(file(R"({"lora_alpha": 8, "r": 2})")), 4);
  EXPECT_NE(remarks(file(R"({"transformer.new_key": 6})")).find("\"new_key\""), std::string::npos);
}

using Patterns = LoraFiles;

TEST_F(Patterns, TheFirstInTheOrderOfTheFileThatMatchesHolds) {
  const std::vector<std::string> layers{kQ, "blocks.1.self_attn.q", "blocks.0.ffn.0"};
  const auto alphas = [&](const std::string& patterns) {
    return scales(
        open_lora(save_adapter(R"({"lora_alpha": 2, "alpha_pattern": )" + patterns + "}", layers)));
  };
  using Map = std::map<std::string, double>;
  EXPECT_EQ(alphas(R"({"self_attn.q": 4, "blocks.0.self_attn.q": 32})"),
            (Map{{layers[0], 2}, {layers[1], 2}, {layers[2], 1}}));
  EXPECT_EQ(alphas(R"({"blocks.0.self_attn.q": 32, "self_attn.q": 4})"),
            (Map{{layers[0], 16}, {layers[1], 2}, {layers[2], 1}}));
}

TEST_F(Patterns, AreReadAsPeftWritesThem) {
  const auto fits = [&](const std::string& key) {
    const std::string json = nlohmann::json(key).dump();
    return scale(save_adapter(R"({"lora_alpha": 2, "alpha_pattern": {)" + json + ": 6}}")) == 3;
  };
  for (const std::string key :
       {"blocks.0.self_attn.q", "self_attn.q", "q", "^blocks.0.self_attn.q",
        "^blocks\\.0\\.self_attn\\.q", "self_attn\\.q$", "self\\_attn.q", "blocks...self_attn.q"}) {
    EXPECT_TRUE(fits(key)) << key;
  }
  for (const std::string key :
       {"^self_attn.q", "attn.q", "blocks.0", "self_attn.k", "self_attn\\_q",
        "blocks.00.self_attn.q", "x.blocks.0.self_attn.q", ""}) {
    EXPECT_FALSE(fits(key)) << key;
  }
  for (const std::string key :
       {"^a.*", ".*q", "[qk]", "q|k", "blocks\\.\\d+", "q?", "q{1}", "a^", "a$b", "(q)", "a\\"}) {
    expect_config_refused(R"({"alpha_pattern": {)" + nlohmann::json(key).dump() + ": 1}}",
                          "alpha_pattern: found the regular expression ");
  }
}

TEST_F(Patterns, AreMatchedWithTheNamesOfTheFile) {
  const auto one = [&](const std::string& prefix, const std::string& layer, const char* config) {
    return scale(
        save("m.safetensors", pairs({layer}, prefix), {{"lora_adapter_metadata", config}}));
  };
  EXPECT_EQ(one("transformer.", "blocks.0.attn1.to_q",
                R"({"transformer.alpha_pattern": {"^blocks.0.attn1.to_q": 8}})"),
            4);
  EXPECT_EQ(one("base_model.model.transformer.", kQ,
                R"({"alpha_pattern": {"^transformer.blocks.0.self_attn.q": 8}})"),
            4);
}

TEST_F(Patterns, ThatFitNoLayerAreNamed) {
  const auto folder = save_adapter(
      R"({"lora_alpha": 2, "alpha_pattern": {"self_attn.q": 4, "self_attn.kk": 8},
          "rank_pattern": {"attn1.to_q": 8}})");
  EXPECT_EQ(scale(folder), 2);
  const std::string config = (folder / "adapter_config.json").string();
  EXPECT_EQ(remarks(folder),
            config + ": alpha_pattern: \"self_attn.kk\" fit no layer of the LoRA\n" + config +
                ": rank_pattern: \"attn1.to_q\" fit no layer of the LoRA\n");
}

TEST_F(Patterns, ARankThatTheTensorsContradictIsRefused) {
  EXPECT_EQ(scale(save_adapter(R"({"lora_alpha": 2, "r": 8, "rank_pattern": {"q": 2}})")), 1);
  EXPECT_EQ(scale(save_adapter(R"({"lora_alpha": 2, "r": 2, "rank_pattern": {"k": 8}})")), 1);
  // a regular expression may match any layer, so `r` is not checked; the tensors give the rank
  EXPECT_EQ(scale(save_adapter(R"({"lora_alpha": 2, "r": 8, "rank_pattern": {".*q": 2}})")), 1);
  expect_config_refused(R"({"lora_alpha": 2, "r": 8})",
                        "r: found 8, expected 2, the rank of layer \"blocks.0.self_attn.q\"");
  expect_config_refused(R"({"lora_alpha": 2, "r": 2, "rank_pattern": {"self_attn.q": 4, "q": 2}})",
                        "rank_pattern: found 4, expected 2, the rank of layer ");
}

using Alphas = LoraFiles;

TEST_F(Alphas, StandInTheHeadersMetadataUnderSeveralNames) {
  for (const char* name : {"lora_alpha", "alpha", "network_alpha", "ss_network_alpha"}) {
    for (const auto& [text, expected] : {std::pair("16", 8.0), std::pair("16.0", 8.0),
                                         std::pair("1", 0.5), std::pair("1e1", 5.0)}) {
      const auto file = save("m.safetensors", pairs({kQ}), {{name, text}});
      EXPECT_EQ(scale(file), expected) << name;
      EXPECT_EQ(remarks(file), "") << name;
    }
    for (const char* text : {"None", "", "null"}) {
      const auto file = save("m.safetensors", pairs({kQ}), {{name, text}});
      EXPECT_EQ(scale(file), 1) << name;
      EXPECT_NE(remarks(file).find("scale 1 is taken"), std::string::npos);
    }
    for (const char* text : {"nan", "NaN", "inf", "Dynamic", "16x", " ", "true", "[16]", "1e999"}) {
      const auto file = save("m.safetensors", pairs({kQ}), {{name, text}});
      expect_refused([&] { open_lora(file); }, file, std::string("metadata ") + name + ": found ");
    }
  }
}

TEST_F(Alphas, OfMetadataMustAgreeAmongThemselvesAndWithTheTensors) {
  const auto file = [&](const Metadata& metadata) {
    return save("m.safetensors", pairs({kQ}), metadata);
  };
  EXPECT_EQ(scale(file({{"lora_alpha", "4"}, {"ss_network_alpha", "4.0"}, {"r", "2"}})), 2);
  EXPECT_EQ(scale(file({{"ss_network_alpha", "4"}, {"ss_network_dim", "2"}})), 2);
  EXPECT_DOUBLE_EQ(scale(file({{"lora_alpha", "4"}, {"use_rslora", "True"}})), 4 / std::sqrt(2.0));
  expect_refused(
      [&] {
        open_lora(file({{"lora_alpha", "4"}, {"network_alpha", "8"}}));
      },
      folder_, "metadata network_alpha: found 8, expected the number of lora_alpha");
  expect_refused(
      [&] {
        open_lora(file({{"ss_network_alpha", "4"}, {"ss_network_dim", "8"}}));
      },
      folder_, "r: found 8, expected 2, the rank of layer");
  expect_refused(
      [&] {
        open_lora(file({{"lora_alpha", "4"}, {"use_rslora", "yes"}}));
      },
      folder_, "metadata: use_rslora: found \"yes\", expected true or false");
  expect_refused(
      [&] {
        open_lora(file({{"init_lora_weights", "pissa"}}));
      },
      folder_, "metadata: init_lora_weights: found \"pissa\"");
}

TEST_F(Alphas, OfKohyasMetadataAreMultipliedInWhereAConverterHasRenamedTheTensors) {
  const Metadata metadata{{"ss_network_module", "networks.lora_wan"}, {"ss_network_alpha", "8"}};
  const Shapes own{{"lora_unet_blocks_0_self_attn_q.lora_down.weight", {2, 3}},
                   {"lora_unet_blocks_0_self_attn_q.lora_up.weight", {4, 2}}};
  EXPECT_EQ(scale(save("m.safetensors", own, metadata)), 4);
  const auto converted = save("m.safetensors", pairs({kQ}), metadata);
  EXPECT_EQ(scale(converted), 1);
  EXPECT_NE(remarks(converted).find("ss_network_alpha does not count"), std::string::npos);
}

TEST_F(Alphas, OfTensorsGoBeforeAllOthers) {
  Shapes shapes = pairs({kQ, "blocks.1.self_attn.q"});
  shapes["diffusion_model." + kQ + ".alpha"] = {1};  // zero
  const auto file = save("m.safetensors", shapes, {{"ss_network_alpha", "8"}});
  EXPECT_EQ(scales(open_lora(file)),
            (std::map<std::string, double>{{kQ, 0}, {"blocks.1.self_attn.q", 4}}));
  shapes["diffusion_model.blocks.1.self_attn.q.alpha"] = {1};
  EXPECT_EQ(scale(save("m.safetensors", shapes, {{"ss_network_alpha", "Dynamic"}})), 0);
}

TEST_F(Alphas, AreTakenFromTheConfigurationBesideARenamedFile) {
  write("adapter_config.json", R"({"lora_alpha": 6})");
  const auto renamed = save("style.safetensors", pairs({kQ}));
  save("model.safetensors", {{"patch_embedding.weight", {4, 3}}});
  write("optimizer.pt", "no tensors");
  EXPECT_EQ(scale(renamed), 3);
  EXPECT_EQ(remarks(renamed), "");
  // metadata in the file take precedence over adapter_config.json
  EXPECT_EQ(scale(save("style.safetensors", pairs({kQ}),
                       {{"lora_adapter_metadata", R"({"transformer.lora_alpha": 8})"}})),
            4);
  write("adapter_config.json", R"({"use_dora": true})");
  expect_refused([&] { open_lora(renamed); }, folder_ / "adapter_config.json", "use_dora");
}

TEST_F(Alphas, AreNotTakenFromAConfigurationThatMayBeThatOfAnotherLora) {
  write("adapter_config.json", R"({"lora_alpha": 6, "r": 2})");
  const auto style = save("style.safetensors", pairs({kQ}));
  save("motion.safetensors", pairs({kQ}));
  EXPECT_EQ(scale(style), 1);
  EXPECT_EQ(remarks(style), style.string() +
                                ": adapter_config.json is not read, because \"motion.safetensors\" "
                                "beside it is a LoRA, too\n" +
                                style.string() +
                                ": found no alpha for 1 of 1 layers, scale 1 is taken for them\n");
  EXPECT_EQ(scale(save("adapter_model.safetensors", pairs({kQ}))), 3);
}

TEST_F(Alphas, ThatAreNowhereAreSaidToBe) {
  Shapes shapes = pairs({kQ, "blocks.1.self_attn.q"});
  shapes["diffusion_model." + kQ + ".alpha"] = {1};
  const auto file = save("m.safetensors", shapes);
  EXPECT_EQ(remarks(file),
            file.string() + ": found no alpha for 1 of 2 layers, scale 1 is taken for them\n");
}

std::string layer_of(const std::string& place) {
  const auto key = parse_lora_key(place + ".lora_down.weight");
  return key ? key->layer : "none";
}

TEST(LoraNames, JoinedOnesAreKnownInWansAndInDiffusersWords) {
  const std::map<std::string, std::string> layers{
      {"blocks_1_ffn_net_0_proj", "blocks.1.ffn.0"},
      {"blocks_1_ffn_net_2", "blocks.1.ffn.2"},
      {"blocks_11_attn1_to_out_0", "blocks.11.self_attn.o"},
      {"blocks_0_attn2_norm_q", "blocks.0.cross_attn.norm_q"},
      {"blocks_0_norm2", "blocks.0.norm3"},
      {"blocks_0_cross_attn_k", "blocks.0.cross_attn.k"},
      {"proj_out", "head.head"},
      {"head_head", "head.head"},
      {"patch_embedding", "patch_embedding"},
      {"condition_embedder_text_embedder_linear_1", "text_embedding.0"},
      {"condition_embedder_time_embedder_linear_2", "time_embedding.2"},
      {"condition_embedder_time_proj", "time_projection.1"}};
  for (const auto& [joined, layer] : layers) {
    for (const std::string prefix : {"lora_unet_", "lora_unet__", "lora_unet.", "lycoris_",
                                     "lora_transformer_", "transformer.", "diffusion_model.", ""}) {
      EXPECT_EQ(layer_of(prefix + joined), layer) << prefix;
    }
  }
  for (const std::string unknown : {"blocks_1_self_attn_x", "blocks_x_ffn_0", "img_emb_proj_0"}) {
    EXPECT_EQ(layer_of("lora_unet_" + unknown), "none");
    EXPECT_EQ(layer_of("lycoris_" + unknown), "none");
  }
}

TEST(LoraNames, MayMixDotsAndUnderscores) {
  EXPECT_EQ(layer_of("lora_unet_blocks.1.ffn_net.0.proj"), "blocks.1.ffn.0");
  EXPECT_EQ(layer_of("diffusion_model.blocks.1.self_attn_q"), "blocks.1.self_attn.q");
  EXPECT_EQ(layer_of("transformer.blocks_1.attn1.to_q"), "blocks.1.self_attn.q");
}

TEST(LoraNames, MayHaveStacksOfPrefixes) {
  for (const std::string prefix :
       {"transformer.base_model.model.", "module.base_model.model.",
        "base_model.model.transformer.", "base_model.model.module.", "module.transformer.",
        "transformer.module.", "_orig_mod.", "base_model.model.base_model.model.",
        "model.diffusion_model.", "module.pipe.dit."}) {
    EXPECT_EQ(layer_of(prefix + "blocks.1.attn1.to_q"), "blocks.1.self_attn.q") << prefix;
  }
  const auto key = parse_lora_key("module.base_model.model.blocks.0.attn1.to_q.lora_A.x.weight");
  EXPECT_EQ(key.value().family, LoraFamily::kPeft);
  EXPECT_EQ(key.value().written, "blocks.0.attn1.to_q");
}

TEST(LoraNames, HoldAnAdaptersNameWithoutDots) {
  for (const std::string adapter : {"default", "my-style_2", "lora_A"}) {
    const auto key = parse_lora_key("blocks.0.self_attn.q.lora_A." + adapter + ".weight");
    EXPECT_EQ(key.value().layer, kQ) << adapter;
  }
  EXPECT_FALSE(parse_lora_key("blocks.0.self_attn.q.lora_A.v1.5.weight"));
}

using OtherMethods = LoraFiles;

TEST_F(OtherMethods, AreRefusedByTheirName) {
  const std::string layer = "lycoris_blocks_0_self_attn_q.";
  for (const auto& [end, title] :
       {std::pair("lokr_w1", "LoKr"), std::pair("lokr_w2_a", "LoKr"),
        std::pair("hada_w1_a", "LoHa"), std::pair("oft_blocks", "OFT"),
        std::pair("oft_R.weight", "OFT"), std::pair("boft_R", "BOFT"), std::pair("ia3_l", "IA3"),
        std::pair("on_input", "IA3"), std::pair("a1.weight", "GLoRA"),
        std::pair("glora_A", "GLoRA")}) {
    const auto file = save(
        "m.safetensors", {{layer + end, {2, 2}}, {layer + "alpha", {1}}, {layer + "weight", {2}}});
    expect_refused([&] { open_lora(file); }, file, std::string("found ") + title + " (tensor ");
    EXPECT_TRUE(looks_like_lora(open_checkpoint(file)));
  }
  Shapes mixed = pairs({kQ});
  mixed["diffusion_model.blocks.0.ffn.0.lokr_w1"] = {2, 2};
  const auto file = save("m.safetensors", mixed);
  expect_refused([&] { open_lora(file); }, file, "found LoKr (tensor ");
}

}  // namespace
}  // namespace ospnext
