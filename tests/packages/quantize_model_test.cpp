// HiFloat8 checkpoints: their content, and that they load as the rounded original weights.
#include "packages/quantize_model.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/fields.h"
#include "core/torch/random.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"
#include "packages/convert_model.h"
#include "packages/inspect_model.h"
#include "packages/load_model.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"
#include "support/compare.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, at::Tensor>;

const ComputeOptions kSimulated{.hif8 = Hif8Use::kSimulated};

class Hif8Models : public ::testing::Test {
 protected:
  Hif8Models() {
    fs::create_directories(source_);
    for (auto& [name, weight] : weights_) {  // both dtypes, as packages mix them
      weight = name.starts_with("time") ? weight : weight.to(at::kBFloat16);
    }
    save_safetensors(source_ / "diffusion_pytorch_model.safetensors", weights_);
    write_config(source_, {});
  }

  static void write_config(const fs::path& folder,
                           const std::map<std::string, nlohmann::json>& changes) {
    nlohmann::json config = fields_to_json(tiny_transformer_config());
    for (const auto& [field, value] : changes) {
      config[field] = value;
    }
    write_file(folder / "config.json", config.dump());
  }
  static PartFiles files(const fs::path& model, const std::vector<LoraChoice>& loras = {},
                         LoraMode mode = LoraMode::kMerge) {
    return find_model_files({.transformer = model, .loras = loras, .lora_mode = mode})
        .require(ModelPart::kTransformer);
  }
  QuantizedModel quantize(const fs::path& from, const std::string& to,
                          int64_t max_shard_bytes = 1 << 30,
                          const std::vector<LoraChoice>& loras = {}) const {
    Progress progress(nullptr, false);
    const CancellationToken never;
    return quantize_transformer(files(from, loras), max_shard_bytes, folder_ / to, progress, never);
  }
  std::string refusal(const fs::path& from) const {
    const auto before = folder_.names();
    try {
      quantize(from, "refused");
    } catch (const InputError& error) {
      EXPECT_EQ(folder_.names(), before);
      return error.what();
    }
    return "";
  }
  static at::Tensor run(Transformer& transformer) {
    const torch::NoGradGuard no_grad;
    const auto draw = [](at::IntArrayRef shape) {
      return torch::randn(shape, seeded_generator(8, "hif8 models"), torch::kFloat32);
    };
    return transformer->forward(draw({1, 16, 1, 4, 6}), draw({1, 512, 32}), torch::tensor({700.F}));
  }
  static at::Tensor run(const fs::path& model, const ComputeOptions& compute,
                        const std::vector<LoraChoice>& loras = {},
                        LoraMode mode = LoraMode::kMerge) {
    Transformer transformer = load_transformer(files(model, loras, mode), compute);
    return run(transformer);
  }

  const TemporaryFolder folder_;
  const fs::path source_ = folder_ / "source";
  Tensors weights_ = random_weights(*Transformer(tiny_transformer_config()), 1);
};

TEST_F(Hif8Models, HoldTheCodesOfEachWeightAndItsScale) {
  const QuantizedModel written = quantize(source_, "q");
  EXPECT_EQ(written.file, "diffusion_pytorch_model.safetensors");
  EXPECT_EQ(written.rounded, 20U);
  EXPECT_EQ(written.tensors, weights_.size());
  const nlohmann::json config = read_json_file(folder_ / "q/config.json");
  EXPECT_EQ(config["weight_format"], "hif8");
  EXPECT_EQ(config["quant"], "");
  Tensors found = read_tensors(folder_ / "q" / written.file);
  EXPECT_EQ(found.size(), weights_.size() + 20);
  for (const auto& [name, weight] : weights_) {
    if (!hif8::is_rounded_weight(name)) {
      EXPECT_EQ(found.at(name).scalar_type(), weight.scalar_type());
      EXPECT_TRUE(found.at(name).equal(weight)) << name;
      continue;
    }
    const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_tensor(weight));
    EXPECT_TRUE(found.at(name + "_hif8_scale").equal(scale)) << name;
    EXPECT_TRUE(found.at(name).equal(hif8::encode(weight, scale))) << name;
    // A planted mistake.
    EXPECT_FALSE(found.at(name).equal(hif8::encode(weight, scale * 0.9))) << name;
  }
}

TEST_F(Hif8Models, LoadAsTheRoundedWeightsInEveryPrecision) {
  quantize(source_, "q");
  Transformer loaded = load_transformer(files(folder_ / "q"), {});
  for (const auto& item : loaded->named_parameters()) {
    at::Tensor expected = weights_.at(item.key()).to(at::kFloat);
    if (hif8::is_rounded_weight(item.key())) {
      const at::Tensor scale = hif8::scale_to(15, hif8::amax_of_tensor(expected));
      expected = hif8::code_values(expected, scale) / scale;
    }
    EXPECT_TRUE(item.value().equal(expected)) << item.key();
  }
  const at::Tensor decoded = run(folder_ / "q", {}), plain = run(source_, {});
  EXPECT_GT(relative_l2(decoded, plain), 1e-4);
  EXPECT_LT(relative_l2(decoded, plain), 0.1);
  const at::Tensor bf16 = run(folder_ / "q", {.dtype = at::kBFloat16});
  EXPECT_LT(relative_l2(bf16, decoded), 0.05);
  // Rounding while loading and rounding before give the same codes.
  const at::Tensor simulated = run(source_, kSimulated);
  EXPECT_TRUE(torch::equal(run(folder_ / "q", kSimulated), simulated));
  EXPECT_GT(relative_l2(simulated, decoded), 1e-4);
}

TEST_F(Hif8Models, RoundingInBf16StaysNearThatInFloat32) {
  const at::Tensor in_float = run(source_, kSimulated);
  const at::Tensor in_bf16 = run(source_, {.dtype = at::kBFloat16, .hif8 = Hif8Use::kSimulated});
  EXPECT_LT(relative_l2(in_bf16, in_float), 0.05);
  EXPECT_GT(relative_l2(in_bf16, in_float), 1e-4);
}

// Bytes of the weights for simulated HiF8, also from a checkpoint of codes.
TEST_F(Hif8Models, ForTensorCoresWeightsAreLoadedIntoEightBits) {
  const ComputeOptions simulated{.dtype = at::kBFloat16, .hif8 = Hif8Use::kSimulated};
  const ComputeOptions fast{.dtype = at::kBFloat16, .hif8 = Hif8Use::kTensorCores};
  quantize(source_, "codes");
  const Transformer expected = load_transformer(files(source_), simulated);
  const auto values = expected->named_parameters();
  for (const fs::path& from : {source_, folder_ / "codes"}) {
    const Transformer loaded = load_transformer(files(from), fast);
    for (const auto& item : loaded->named_parameters()) {
      const bool rounded = hif8::is_rounded_weight(item.key());
      EXPECT_EQ(item.value().scalar_type() == at::kFloat8_e4m3fn, rounded) << item.key();
      const at::Tensor wanted = values[item.key()];
      const at::Tensor as_operand = rounded ? hif8::fp8_weight(wanted) : wanted;
      EXPECT_TRUE(item.value().to(at::kFloat).equal(as_operand.to(at::kFloat))) << item.key();
      EXPECT_EQ(item.value().requires_grad(), false);
    }
  }
  const at::Tensor slow = run(source_, simulated), quick = run(source_, fast);
  EXPECT_LT(relative_l2(quick, slow), 0.02);
  EXPECT_GT(relative_l2(quick, run(source_, {.dtype = at::kBFloat16})), 1e-3);
}

TEST_F(Hif8Models, TheConfigurationSwitchesRoundingOn) {
  const at::Tensor plain = run(source_, {}), simulated = run(source_, kSimulated);
  write_config(source_, {{"quant", "hif8"}});
  const at::Tensor linears = run(source_, {});
  EXPECT_FALSE(torch::equal(linears, plain));
  EXPECT_FALSE(torch::equal(linears, simulated));
  write_config(source_, {{"quant", "hif8"}, {"quant_attn", "hif8"}});
  EXPECT_TRUE(torch::equal(run(source_, {}), simulated));
  EXPECT_TRUE(torch::equal(run(source_, {.hif8 = Hif8Use::kNowhere}), plain));
  write_config(source_, {{"quant", "hif8"}, {"scale_max_forward", 7.0}});
  EXPECT_FALSE(torch::equal(run(source_, {}), linears));
  write_config(source_, {{"quant", "hif8"}, {"scale_max_forward", 1e6}});
  EXPECT_THROW(run(source_, {}), InputError);
}

TEST_F(Hif8Models, ALoraIsAddedBeforeRounding) {
  save_safetensors(folder_ / "lora.safetensors",
                   {{"diffusion_model.blocks.1.ffn.2.lora_A.weight", torch::randn({3, 64})},
                    {"diffusion_model.blocks.1.ffn.2.lora_B.weight", torch::randn({128, 3})}});
  const std::vector<LoraChoice> loras{{folder_ / "lora.safetensors", 0.5}};
  quantize(source_, "merged", 1 << 30, loras);
  const at::Tensor merged = run(folder_ / "merged", kSimulated);
  EXPECT_TRUE(torch::equal(run(source_, kSimulated, loras), merged));
  EXPECT_FALSE(torch::equal(run(source_, kSimulated), merged));
  // On codes: decoded, added, rounded again.
  quantize(source_, "q");
  const at::Tensor again = run(folder_ / "q", kSimulated, loras);
  EXPECT_FALSE(torch::equal(again, run(folder_ / "q", kSimulated)));
  EXPECT_LT(relative_l2(again, merged), 0.1);
}

TEST_F(Hif8Models, ALoraIsLiveBesideCodesUnlessMergedOnRequest) {
  save_safetensors(folder_ / "lora.safetensors",
                   {{"diffusion_model.blocks.1.ffn.2.lora_A.weight", torch::randn({8, 64}) * 0.1},
                    {"diffusion_model.blocks.1.ffn.2.lora_B.weight", torch::randn({128, 8}) * 0.1},
                    {"diffusion_model.blocks.0.norm3.diff", torch::randn({128})}});
  const std::vector<LoraChoice> loras{{folder_ / "lora.safetensors", 0.5}};
  const at::Tensor live = run(source_, kSimulated, loras, LoraMode::kLive);
  EXPECT_TRUE(torch::equal(run(source_, kSimulated, loras, LoraMode::kAuto), live));
  const at::Tensor merged = run(source_, kSimulated, loras);
  EXPECT_FALSE(torch::equal(live, merged));
  EXPECT_LT(relative_l2(live, merged), 0.1);
  // Without HiFloat8, both are the same sum. The difference of the norm is merged either way.
  const at::Tensor plain = run(source_, {}, loras);
  EXPECT_TRUE(torch::equal(run(source_, {}, loras, LoraMode::kAuto), plain));
  const at::Tensor plain_live = run(source_, {}, loras, LoraMode::kLive);
  EXPECT_LT(relative_l2(plain_live, plain), 1e-5);
  EXPECT_GT(relative_l2(run(source_, {}), plain), 1e-2);
}

TEST_F(Hif8Models, AreWrittenInShards) {
  const QuantizedModel written = quantize(source_, "q", 100'000);
  EXPECT_EQ(written.file, "diffusion_pytorch_model.safetensors.index.json");
  quantize(source_, "single");
  EXPECT_TRUE(torch::equal(run(folder_ / "q", {}), run(folder_ / "single", {})));
}

TEST_F(Hif8Models, AreConvertedToADtypeAndInspected) {
  quantize(source_, "q");
  const auto convert = [&](const std::string& to, std::optional<DType> dtype) {
    Progress progress(nullptr, false);
    const CancellationToken never;
    convert_model(find_model_files({.transformer = folder_ / "q"}),
                  {ModelFamily::kDiffusers, dtype, 1 << 30}, folder_ / to, progress, never);
  };
  try {
    convert("kept", std::nullopt);
    ADD_FAILURE() << "codes have no dtype to keep in another layout";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("is U8 with a scale: name the dtype"),
              std::string::npos);
  }
  convert("float32", DType::kF32);
  EXPECT_TRUE(torch::equal(run(folder_ / "float32/transformer", {}), run(folder_ / "q", {})));
  const auto description = inspect_model(folder_ / "q");
  EXPECT_EQ(description["kind"], "transformer");
  EXPECT_EQ(description["hif8_weights"], 20);
  EXPECT_EQ(description["parameters"], inspect_model(source_)["parameters"]);
  EXPECT_FALSE(description.contains("problem"));
  EXPECT_TRUE(description["missing"].empty() && description["unused"].empty());
}

TEST_F(Hif8Models, Refusals) {
  quantize(source_, "q");
  EXPECT_NE(refusal(folder_ / "q").find("are HiF8 codes already"), std::string::npos);
  try {
    quantize(source_, "q");
    ADD_FAILURE() << "the folder is not empty";
  } catch (const InputError& error) {
    EXPECT_NE(std::string(error.what()).find("expected a new or an empty folder"),
              std::string::npos);
  }
  Tensors broken = weights_;
  for (const char* name : {"blocks.1.ffn.0.weight", "blocks.1.ffn.0.bias"}) {
    broken = weights_;
    broken[name] = broken[name].clone();
    broken[name].view(-1)[5] = NAN;
    save_safetensors(source_ / "diffusion_pytorch_model.safetensors", broken);
    EXPECT_NE(refusal(source_).find(quoted(name) + " holds NaN or infinite"), std::string::npos);
    EXPECT_THROW(run(source_, kSimulated), InputError);
  }
  broken = weights_;
  broken.erase("blocks.1.ffn.0.weight");
  save_safetensors(source_ / "diffusion_pytorch_model.safetensors", broken);
  EXPECT_NE(refusal(source_).find("are missing: blocks.1.ffn.0.weight"), std::string::npos);
  EXPECT_THROW(run(source_, kSimulated), InputError);
  Tensors codes = read_tensors(folder_ / "q/diffusion_pytorch_model.safetensors");
  codes["blocks.0.ffn.0.weight"].view(-1)[3] = 0x80;  // NaN
  save_safetensors(folder_ / "q/diffusion_pytorch_model.safetensors", codes);
  EXPECT_THROW(run(folder_ / "q", {}), InputError);
  EXPECT_THROW(run(folder_ / "q", kSimulated), InputError);
}

}  // namespace
}  // namespace ospnext
