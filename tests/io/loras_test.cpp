// LoRAs of every family merge as in the original loaders; broken ones are refused.
#include "io/loras.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "io/readers/key_layouts.h"
#include "io/weight_stream.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/on_device.h"
#include "support/paths.h"
#include "support/temporary_folder.h"

namespace ospnext {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

constexpr double kRounding = 1e-6;  // of the largest value: a few roundings of 6e-8

Checkpoint base() {
  return open_checkpoint(fixture_path("lora/base.safetensors"));
}

// All weights of the base with the LoRAs added, in float32.
Tensors merged(const std::vector<LoraChoice>& choices, at::Device device = at::kCPU) {
  const Checkpoint checkpoint = base();
  const Loras loras(choices);
  loras.check_fits(renamed_shapes(checkpoint, transformer_keys(checkpoint)));
  Tensors result;
  for (const auto& [name, source] : weight_sources(checkpoint, transformer_keys(checkpoint))) {
    stream_weight(source, checkpoint, loras, device, [&](int64_t, const at::Tensor& rows) {
      EXPECT_EQ(rows.device().type(), device.type());
      result[name] = rows.to(at::kCPU, at::kFloat).clone();
    });
  }
  return result;
}

struct Case {
  std::string name;
  std::vector<LoraChoice> loras;
};

std::vector<Case> cases() {
  const Checkpoint expected = open_checkpoint(fixture_path("lora/expected.safetensors"));
  std::vector<Case> list;
  for (const auto& entry : nlohmann::json::parse(expected.metadata().at("cases"))) {
    Case one{entry["name"].get<std::string>(), {}};
    for (const auto& lora : entry["loras"]) {
      one.loras.push_back({fixture_path("lora/" + lora[0].get<std::string>()), lora[1]});
    }
    list.push_back(one);
  }
  return list;
}

// Largest deviation of any weight from what the case expects.
double deviation(const Case& one, const Tensors& actual) {
  const Tensors expected = read_tensors(fixture_path("lora/expected.safetensors"));
  const Tensors unchanged = merged({});
  double worst = 0;
  for (const auto& [name, weight] : actual) {
    const auto changed = expected.find(one.name + "/" + name);
    worst = std::max(worst, relative_max(weight, changed == expected.end() ? unchanged.at(name)
                                                                           : changed->second));
  }
  return worst;
}

class LorasOnDevice : public OnDevice {};
INSTANTIATE_ON_DEVICES(LorasOnDevice);

TEST_P(LorasOnDevice, OfEveryFamilyMergeAsOtherLoadersDo) {
  const auto all = cases();
  ASSERT_EQ(all.size(), 11U);
  for (const Case& one : all) {
    const double worst = deviation(one, merged(one.loras, device()));
    RecordProperty(one.name, std::to_string(worst));
    EXPECT_LT(worst, kRounding) << one.name;
  }
}

TEST(Loras, AWrongStrengthOrAMissingLoraIsNoticed) {
  for (Case one : cases()) {
    one.loras.back().strength *= 1.001;
    EXPECT_GT(deviation(one, merged(one.loras)), 10 * kRounding) << one.name;
    one.loras.pop_back();
    EXPECT_GT(deviation(one, merged(one.loras)), 1e-2) << one.name;
  }
}

// weight [5000, 4000] or another shape, in bf16
struct OneWeightImpl : torch::nn::Module {
  explicit OneWeightImpl(at::IntArrayRef shape) {
    weight = register_parameter("weight", torch::zeros(shape, at::kBFloat16));
  }
  at::Tensor weight;
};

TEST(Loras, AreAddedInFloat32BlockByBlockAndRoundedOnce) {
  torch::manual_seed(5);
  const TemporaryFolder folder;
  const at::Tensor weight = torch::randn({5000, 4000}).to(at::kBFloat16);  // two blocks and a bit
  const at::Tensor wide = weight.to(at::kFloat);
  const at::Tensor down = torch::randn({2, 4000});
  const at::Tensor up = torch::randn({5000, 2}) * 0.01;
  save_safetensors(folder / "base.safetensors", {{"weight", wide}});
  save_safetensors(folder / "lora.safetensors", {{"diffusion_model.head.lora_A.weight", down},
                                                 {"diffusion_model.head.lora_B.weight", up}});
  OneWeightImpl module(weight.sizes());
  const Loras loras({{folder / "lora.safetensors", 0.5}, {folder / "lora.safetensors", 0.25}});
  // the LoRA is one of "head.weight"
  torch::nn::Module outer;
  outer.register_module("head", std::shared_ptr<torch::nn::Module>(&module, [](auto*) {}));
  load_weights(
      outer, open_checkpoint(folder / "base.safetensors"),
      [](const std::string& name) { return "head." + name; }, loras);
  const at::Tensor step = torch::addmm(wide, up, down, 1.0, 0.5);
  const at::Tensor expected = torch::addmm(step, up, down, 1.0, 0.25);
  EXPECT_TRUE(module.weight.equal(expected.to(at::kBFloat16)));
  const at::Tensor twice_rounded =
      torch::addmm(step.to(at::kBFloat16).to(at::kFloat), up, down, 1.0, 0.25);
  EXPECT_FALSE(module.weight.equal(twice_rounded.to(at::kBFloat16)));
}

// PEFT: the alpha of the first pattern that matches, divided by the rank, is the factor of the sum.
TEST(Loras, OfAnAdapterTakeTheFirstPatternThatMatches) {
  torch::manual_seed(6);
  const TemporaryFolder folder;
  const auto merged_with = [&](const std::string& config, const Tensors& lora) {
    save_safetensors(folder / "adapter_model.safetensors", lora);
    write_file(folder / "adapter_config.json", config);
    return merged({{folder.path(), 1.0}});
  };
  const Tensors unchanged = merged({});
  Tensors lora;
  for (const std::string layer : {"blocks.0.self_attn.q", "blocks.1.self_attn.q"}) {
    lora["base_model.model." + layer + ".lora_A.weight"] = torch::randn({2, 12});
    lora["base_model.model." + layer + ".lora_B.weight"] = torch::randn({12, 2});
  }
  const Tensors changed = merged_with(
      R"({"r": 2, "lora_alpha": 1, "alpha_pattern": {"self_attn.q": 4, "^blocks.0.self_attn.q": 32}})",
      lora);
  for (const std::string layer : {"blocks.0.self_attn.q", "blocks.1.self_attn.q"}) {
    const at::Tensor expected =
        unchanged.at(layer + ".weight") +
        4.0 / 2.0 *
            torch::matmul(lora.at("base_model.model." + layer + ".lora_B.weight"),
                          lora.at("base_model.model." + layer + ".lora_A.weight"));
    EXPECT_LT(relative_max(changed.at(layer + ".weight"), expected), kRounding) << layer;
  }
}

class BrokenLoras : public ::testing::Test {
 protected:
  // The message of the error when this LoRA is loaded for the base model.
  std::string refusal(const Tensors& lora,
                      const std::map<std::string, std::string>& metadata = {}) const {
    save_safetensors(file_, lora, metadata);
    return refusal_of(file_);
  }
  static std::string refusal_of(const std::filesystem::path& path) {
    try {
      merged({{path, 1.0}});
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "";
  }
  std::string at(const std::string& text) const { return file_.string() + ": " + text; }

  // A pair that fits.
  static Tensors good() {
    return {{kLayer + ".lora_A.weight", torch::randn({2, 12})},
            {kLayer + ".lora_B.weight", torch::randn({12, 2})},
            {kLayer + ".alpha", torch::tensor(2.0F)}};
  }

  static inline const std::string kLayer = "diffusion_model.blocks.1.self_attn.q";
  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "lora.safetensors";
};

TEST_F(BrokenLoras, AGoodOneIsTaken) {
  EXPECT_EQ(refusal(good()), "");
}

TEST_F(BrokenLoras, NamesThatFitNothingAreListed) {
  Tensors lora = good();
  lora["diffusion_model.blocks.1.self_attn.q.weight"] = torch::zeros({12, 12});
  lora["lora_unet_blocks_1_self_attn_x.alpha"] = torch::tensor(1.0F);
  lora["diffusion_model.blocks.0.ffn.0.lokr_w1"] = torch::zeros({2, 2});
  EXPECT_EQ(refusal(lora),
            at("3 of 6 tensors have no name of a LoRA: \"diffusion_model.blocks.0.ffn.0.lokr_w1\", "
               "\"diffusion_model.blocks.1.self_attn.q.weight\", "
               "\"lora_unet_blocks_1_self_attn_x.alpha\""));
  lora = good();
  lora["diffusion_model.blocks.2.norm3.diff"] = torch::zeros({12});  // there are blocks 0 and 1
  lora["diffusion_model.img_emb.proj.0.diff_b"] = torch::zeros({12});
  EXPECT_EQ(refusal(lora), at("2 of 3 changes fit no layer of the transformer: "
                              "\"diffusion_model.blocks.2.norm3.diff\", "
                              "\"diffusion_model.img_emb.proj.0.diff_b\""));
}

TEST_F(BrokenLoras, EmptyOnes) {
  EXPECT_EQ(refusal({}), at("the LoRA is empty"));
  EXPECT_NE(refusal_of(folder_.path()).find("adapter_model.safetensors"), std::string::npos);
  EXPECT_NE(refusal_of(folder_ / "none.safetensors"), "");
}

TEST_F(BrokenLoras, HalfAPair) {
  for (const std::string end : {".lora_A.weight", ".lora_B.weight"}) {
    Tensors lora = good();
    lora.erase(kLayer + end);
    const std::string other =
        kLayer + (end == ".lora_A.weight" ? ".lora_B.weight" : ".lora_A.weight");
    EXPECT_EQ(refusal(lora),
              at("tensor \"" + other + "\" stands alone, expected both matrices of its layer"));
  }
  EXPECT_EQ(
      refusal({{kLayer + ".alpha", torch::tensor(1.0F)}}),
      at("tensor \"" + kLayer + ".alpha\" stands alone, expected both matrices of its layer"));
  Tensors lora = good();
  lora["lora_unet_blocks_1_self_attn_q.lora_down.weight"] = torch::zeros({2, 12});
  EXPECT_NE(refusal(lora).find("are the same part of blocks.1.self_attn.q"), std::string::npos);
}

TEST_F(BrokenLoras, RanksAndShapes) {
  Tensors lora = good();
  lora[kLayer + ".lora_A.weight"] = torch::zeros({0, 12});
  lora[kLayer + ".lora_B.weight"] = torch::zeros({12, 0});
  EXPECT_NE(refusal(lora).find("found rank 0, expected at least 1"), std::string::npos);
  lora = good();
  lora[kLayer + ".lora_A.weight"] = torch::zeros({3, 12});
  EXPECT_NE(refusal(lora).find("expected the same rank in both"), std::string::npos);
  lora = good();
  lora[kLayer + ".lora_A.weight"] = torch::zeros({12});
  EXPECT_NE(refusal(lora).find("expected matrices [r, in] and [out, r]"), std::string::npos);
  for (const auto& [name, shape] : {std::pair(".lora_A.weight", std::vector<int64_t>{2, 11}),
                                    std::pair(".lora_B.weight", std::vector<int64_t>{13, 2})}) {
    lora = good();
    lora[kLayer + name] = torch::zeros(shape);
    EXPECT_NE(refusal(lora).find("1 of 1 changes have the wrong shape"), std::string::npos);
  }
  lora = good();
  lora[kLayer + ".diff_b"] = torch::zeros({1});
  EXPECT_NE(refusal(lora).find("(found [1], the weight is [12])"), std::string::npos);
}

TEST_F(BrokenLoras, NumbersThatAreNone) {
  for (const float bad : {NAN, INFINITY}) {
    Tensors lora = good();
    lora[kLayer + ".alpha"] = torch::tensor(bad);
    EXPECT_NE(refusal(lora).find("expected one finite number as alpha"), std::string::npos);
    for (const std::string end : {".lora_A.weight", ".lora_B.weight"}) {
      lora = good();
      lora[kLayer + end][0][0] = bad;
      EXPECT_NE(refusal(lora).find("holds NaN or infinite values"), std::string::npos);
    }
  }
  Tensors lora = good();
  lora[kLayer + ".alpha"] = torch::zeros({2});
  EXPECT_NE(refusal(lora).find("F32 of shape [2], expected one finite number"), std::string::npos);
}

TEST_F(BrokenLoras, Dora) {
  for (const std::string end :
       {".dora_scale", ".lora_magnitude_vector.weight", ".lora_magnitude_vector.default.weight",
        ".lora_magnitude_vector"}) {
    Tensors lora = good();
    lora[kLayer + end] = torch::ones({12});
    EXPECT_NE(refusal(lora).find("magnitudes of DoRA"), std::string::npos) << end;
  }
}

TEST_F(BrokenLoras, AdapterConfigs) {
  save_safetensors(folder_ / "adapter_model.safetensors", good());
  const auto with = [&](const std::string& json) {
    write_file(folder_ / "adapter_config.json", json);
    return refusal_of(folder_.path());
  };
  EXPECT_EQ(with(R"({"r": 2, "lora_alpha": 4, "alpha_pattern": {}})"), "");
  EXPECT_NE(with(R"({"use_dora": true})").find("use_dora: found true"), std::string::npos);
  EXPECT_NE(with(R"({"peft_type": "LOHA"})").find("peft_type"), std::string::npos);
  EXPECT_NE(with(R"({"lora_alpha": "4"})").find("expected a finite number"), std::string::npos);
  EXPECT_NE(with(R"({"alpha_pattern": {"^a.*": 1}})").find("regular expression"),
            std::string::npos);
  EXPECT_NE(with("[]").find("expected a JSON object"), std::string::npos);
  EXPECT_NE(with("{").find("adapter_config.json"), std::string::npos);
  EXPECT_NE(refusal(good(), {{"lora_adapter_metadata", R"({"transformer.use_dora": true})"}})
                .find("use_dora"),
            std::string::npos);
}

TEST_F(BrokenLoras, ThatActAtSomeNoiseLevelsAreNotMerged) {
  save_safetensors(folder_ / "adapter_model.safetensors", good());
  write_file(folder_ / "adapter_config.json", R"({"r": 2, "lowest_noise_level": 0.9})");
  EXPECT_EQ(refusal_of(folder_.path()),
            (folder_ / "adapter_model.safetensors").string() +
                ": acts at some noise levels alone (lowest_noise_level in its configuration), "
                "expected one for all levels where LoRAs are merged");
  Loras loras({{folder_.path(), 0.5}});
  EXPECT_TRUE(loras.need_the_noise_level());
  EXPECT_EQ(loras.take_low_rank().at(0).lowest_noise_level, 0.9);
  write_file(folder_ / "adapter_config.json", R"({"r": 2, "lowest_noise_level": 0})");
  EXPECT_EQ(refusal_of(folder_.path()), "");
  EXPECT_FALSE(Loras({{folder_.path(), 1.0}}).need_the_noise_level());
}

TEST(LoraChoices, AreAFileAndAStrength) {
  const auto expect = [](const std::string& text, const std::string& path, double strength) {
    const LoraChoice choice = parse_lora_choice(text);
    EXPECT_EQ(choice.path, path);
    EXPECT_EQ(choice.strength, strength);
  };
  expect("a.safetensors", "a.safetensors", 1);
  expect("d/a.safetensors:0.8", "d/a.safetensors", 0.8);
  expect("a:b:-2", "a:b", -2);
  expect("a:0", "a", 0);
  for (const std::string text :
       {"a:", "a:b", "a:nan", "a:inf", "a:0.5x", "a: 1", "a:1e9", ":1", ""}) {
    EXPECT_THROW(parse_lora_choice(text), InputError) << text;
  }
}

}  // namespace
}  // namespace ospnext
