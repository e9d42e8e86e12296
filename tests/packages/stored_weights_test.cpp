// Files with unusual storage or names of weights: generate, inspect, convert and quantize treat
// them alike.
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "io/readers/file_bytes.h"
#include "io/weights.h"
#include "packages/convert_model.h"
#include "packages/inspect_model.h"
#include "packages/load_model.h"
#include "packages/quantize_model.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, at::Tensor>;

constexpr ModelPart kParts[] = {ModelPart::kTransformer, ModelPart::kTextEncoder, ModelPart::kVae};

// One layer of each part; its weight is a matrix.
const std::pair<ModelPart, std::string> kLayers[] = {
    {ModelPart::kTransformer, "blocks.1.ffn.0"},
    {ModelPart::kTextEncoder, "blocks.1.attn.k"},
    {ModelPart::kVae, "decoder.middle.1.proj"},
};

class StoredWeights : public ::testing::Test {
 protected:
  // The weights of a part, with Wan's names.
  static const Tensors& weights(ModelPart part) {
    static const std::map<ModelPart, Tensors> all{
        {ModelPart::kTransformer, random_weights(*Transformer(tiny_transformer_config()), 1)},
        {ModelPart::kTextEncoder, random_weights(*Umt5Encoder(tiny_text_encoder_config()), 2)},
        {ModelPart::kVae, random_weights(*Vae(tiny_vae_config()), 3)}};
    return all.at(part);
  }
  ModelFiles files(ModelPart part) const {
    ModelPaths paths;
    (part == ModelPart::kTransformer   ? paths.transformer
     : part == ModelPart::kTextEncoder ? paths.text_encoder
                                       : paths.vae) = file_;
    return find_model_files(paths);
  }
  // The weights in the module after the file is loaded.
  Tensors loaded(ModelPart part) const {
    const ModelFiles all = files(part);
    const PartFiles& found = all.require(part);
    const auto of = [](const auto& module) {
      Tensors tensors;
      for (const auto& item : module->named_parameters()) {
        tensors[item.key()] = item.value().clone();
      }
      return tensors;
    };
    return part == ModelPart::kTransformer   ? of(load_transformer(found, {}))
           : part == ModelPart::kTextEncoder ? of(load_text_encoder(found, {}))
                                             : of(load_vae(found, {}));
  }
  template <class Action>
  static std::string message(Action&& action) {
    try {
      action();
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }
  // The error message for `tensors`. Expects the same one from loading, inspecting, converting and
  // quantising.
  std::string refusal(ModelPart part, const Tensors& tensors) const {
    save_safetensors(file_, tensors);
    return refusal_of_file(part);
  }
  std::string refusal_of_file(ModelPart part) const {
    Progress progress(nullptr, false);
    const CancellationToken never;
    const std::string found = message([&] { loaded(part); });
    const auto described = inspect_model(file_);
    EXPECT_EQ(described.value("problem", ""), found);
    EXPECT_EQ(message([&] {
                convert_model(files(part), {ModelFamily::kDiffusers, DType::kF32, 1 << 30},
                              folder_ / "converted", progress, never);
              }),
              found);
    if (part == ModelPart::kTransformer) {
      EXPECT_EQ(message([&] {
                  quantize_transformer(files(part).require(part), 1 << 30, folder_ / "quantised",
                                       progress, never);
                }),
                found);
    }
    EXPECT_EQ(found.find('\n'), found.npos);
    fs::remove_all(folder_ / "converted");
    fs::remove_all(folder_ / "quantised");
    return found;
  }
  void expect_refused(ModelPart part, const Tensors& tensors, const std::string& what) const {
    const std::string found = refusal(part, tensors);
    EXPECT_NE(found.find(what), found.npos) << found;
    EXPECT_TRUE(found.starts_with(file_.string())) << found;
  }

  const TemporaryFolder folder_;
  const fs::path file_ = folder_ / "part.safetensors";
};

TEST_F(StoredWeights, AreReadBehindAnyWrapperOfAnyPart) {
  for (const ModelPart part : kParts) {
    Tensors wrapped;
    for (const auto& [name, weight] : weights(part)) {
      const size_t dot = name.rfind('.');
      const std::string inner = dot == name.npos ? "" : "_checkpoint_wrapped_module.base_layer.";
      wrapped["generator_ema.model._fsdp_wrapped_module." +
              std::string(name).insert(dot == name.npos ? 0 : dot + 1, inner)] = weight;
    }
    wrapped["step"] = torch::zeros({});
    EXPECT_EQ(refusal(part, wrapped), "");
    for (const auto& [name, weight] : loaded(part)) {
      EXPECT_TRUE(weight.equal(weights(part).at(name))) << name;
    }
  }
}

TEST_F(StoredWeights, OfTwoModelsInOneFileAreRefused) {
  for (const ModelPart part : kParts) {
    Tensors both;
    for (const auto& [name, weight] : weights(part)) {
      both["generator.model." + name] = weight;
      both["generator_ema.model." + name] = weight + 1;
    }
    expect_refused(part, both,
                   "found 2, with names behind \"generator.model.\", \"generator_ema.model.\"");
  }
}

TEST_F(StoredWeights, WithALoraBesideThemAreRefused) {
  Tensors tensors;
  for (const auto& [name, weight] : weights(ModelPart::kTransformer)) {
    tensors["base_model.model." + name] = weight;
  }
  const std::string layer = "base_model.model.blocks.1.ffn.0.";
  const auto base = tensors.extract(layer + "weight");
  tensors[layer + "base_layer.weight"] = base.mapped();
  EXPECT_EQ(refusal(ModelPart::kTransformer, tensors), "");
  tensors[layer + "lora_A.default.weight"] = torch::randn({4, 128});
  tensors[layer + "lora_B.default.weight"] = torch::zeros({64, 4});
  const std::string what = "of a LoRA or another adapter that is not merged";
  expect_refused(ModelPart::kTransformer, tensors, what);
  tensors.erase(layer + "lora_A.default.weight");
  tensors.erase(layer + "lora_B.default.weight");
  tensors[layer + "hada_w1_a.default"] = torch::randn({64, 4});
  expect_refused(ModelPart::kTransformer, tensors, what);
  for (const auto& [part, other] : kLayers) {  // also without PEFT's wrappers
    Tensors plain = weights(part);
    plain[other + ".lora_A.weight"] = torch::zeros({4, 8});
    expect_refused(part, plain, what);
  }
}

TEST_F(StoredWeights, AMissingBlockIsNamed) {
  const std::pair<ModelPart, std::string> blocks[] = {
      {ModelPart::kTransformer, "blocks.0"},
      {ModelPart::kTextEncoder, "blocks.0"},
      {ModelPart::kVae, "encoder.downsamples.1"},
      {ModelPart::kVae, "decoder.upsamples.3"},
  };
  for (const auto& [part, block] : blocks) {
    Tensors tensors = weights(part);
    std::erase_if(tensors, [&](const auto& entry) { return entry.first.starts_with(block + "."); });
    save_safetensors(file_, tensors);
    const std::string found = message([&] { loaded(part); });
    EXPECT_NE(found.find("missing"), found.npos) << found;
    EXPECT_NE(found.find(block), found.npos) << found;
  }
  for (const auto& [part, block] :
       {blocks[0], std::pair<ModelPart, std::string>{ModelPart::kTextEncoder, "blocks.1"}}) {
    Tensors tensors = weights(part);
    tensors["blocks.9999.x"] = torch::zeros({1});
    expect_refused(part, tensors, "9997 of 10000 blocks are missing: blocks.2, blocks.3");
  }
}

TEST_F(StoredWeights, OfWholeNumbersAreRefusedByTheirDtype) {
  for (const auto& [part, layer] : kLayers) {
    for (const auto type : {at::kChar, at::kByte, at::kLong, at::kBool}) {
      Tensors tensors = weights(part);
      at::Tensor& weight = tensors.at(layer + ".weight");
      weight = weight.to(type);
      expect_refused(part, tensors,
                     "\"" + layer + ".weight\" is of " + dtype_name(file_dtype(type, "")) +
                         ", expected floating-point, fp8 or HiF8 weights");
    }
  }
}

TEST_F(StoredWeights, OfOtherQuantisationsAreRefusedByName) {
  for (const auto& [part, layer] : kLayers) {
    Tensors tensors = weights(part);
    const at::Tensor whole = tensors.at(layer + ".weight");
    const auto with = [&, &part = part](const std::string& end, const at::Tensor& weight,
                                        const std::string& what) {
      tensors.insert_or_assign(layer + ".weight", weight);
      tensors[layer + end] = torch::ones({whole.size(0)});
      expect_refused(part, tensors, what);
      tensors.erase(layer + end);
    };
    const at::Tensor packed = torch::zeros({whole.numel() / 2, 1}, at::kByte);
    with(".SCB", whole.to(at::kChar), "bitsandbytes int8");
    with(".weight.quant_state.bitsandbytes__nf4", packed, "bitsandbytes nf4");
    with(".weight.absmax", packed, "bitsandbytes 4-bit");
    with(".weight_scale_2", packed, "nvfp4");
    with(".qweight", whole, "GPTQ or AWQ");
  }
}

TEST_F(StoredWeights, InFp8WithAScaleThatNobodyUnderstandsAreRefused) {
  for (const auto& [part, layer] : kLayers) {
    Tensors tensors = weights(part);
    at::Tensor& weight = tensors.at(layer + ".weight");
    weight = weight.to(at::kFloat8_e4m3fn);
    EXPECT_EQ(refusal(part, tensors), "");
    tensors[layer + ".scale"] = torch::ones({weight.size(0), 1});
    expect_refused(part, tensors, "\"" + layer + ".scale\", which belongs to it");
  }
}

TEST_F(StoredWeights, InFp8WithAScaleForEachRowAreRead) {
  for (const auto& [part, layer] : kLayers) {
    for (const char* end : {".weight_scale", ".scale_weight", ".weight_scale_inv"}) {
      Tensors tensors = weights(part);
      at::Tensor& weight = tensors.at(layer + ".weight");
      const at::Tensor scale = torch::rand({weight.size(0), 1});
      const at::Tensor expected =
          (weight.to(at::kFloat8_e4m3fn).to(at::kFloat).flatten(1) * scale).view_as(weight);
      weight = weight.to(at::kFloat8_e4m3fn);
      tensors[layer + end] = scale;
      EXPECT_EQ(refusal(part, tensors), "");
      EXPECT_TRUE(loaded(part).at(layer + ".weight").equal(expected)) << layer << end;
    }
  }
}

TEST_F(StoredWeights, OfAnUnknownDtypeMatterOnlyWhereTheyAreNeeded) {
  for (const auto& [part, layer] : kLayers) {
    for (const bool needed : {false, true}) {
      Tensors tensors = weights(part);
      const at::Tensor weight = tensors.at(layer + ".weight");
      if (needed) {
        tensors.erase(layer + ".weight");
      }
      save_safetensors(file_, tensors);
      // our writer does not support this dtype, so the test writes its name into the header
      std::string bytes = file_text(file_);
      uint64_t size = 0;
      std::memcpy(&size, bytes.data(), sizeof(size));
      auto header = nlohmann::json::parse(bytes.substr(8, size));
      const auto end = static_cast<int64_t>(bytes.size() - 8 - size);
      header[needed ? layer + ".weight" : "extra"] = {
          {"dtype", "F8_E8M0"},
          {"shape", weight.sizes().vec()},
          {"data_offsets", {end, end + weight.numel()}}};
      write_file(file_, safetensors_bytes(header.dump(), bytes.substr(8 + size) +
                                                             std::string(weight.numel(), '\1')));
      const std::string found = refusal_of_file(part);
      const std::string what = "\"" + layer + ".weight\" is of F8_E8M0, expected";
      EXPECT_EQ(found.find(what) != found.npos, needed) << found;
      EXPECT_EQ(found.empty(), !needed) << found;
    }
  }
}

}  // namespace
}  // namespace ospnext
