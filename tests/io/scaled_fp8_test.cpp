// fp8 checkpoints in ComfyUI's layouts give the values of the formulas in the fixture maker.
#include "io/readers/scaled_fp8.h"

#include <gtest/gtest.h>

#include <cmath>

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

Tensors weights_of(const Checkpoint& checkpoint, at::Device device = at::kCPU) {
  Tensors weights;
  for (const auto& [name, source] : weight_sources(checkpoint, transformer_keys(checkpoint))) {
    stream_weight(source, checkpoint, {}, device, [&](int64_t, const at::Tensor& rows) {
      EXPECT_EQ(rows.device().type(), device.type());
      weights[name] = rows.to(at::kCPU, at::kFloat).clone();
    });
  }
  return weights;
}

class ScaledFp8OnDevice : public OnDevice {};
INSTANTIATE_ON_DEVICES(ScaledFp8OnDevice);

TEST_P(ScaledFp8OnDevice, EveryLayoutMeansWhatItsScalesSay) {
  const Tensors expected = read_tensors(fixture_path("formats/expected.safetensors"));
  for (const std::string file : {"plain", "older", "newer", "newer_e5m2"}) {
    const Checkpoint checkpoint =
        open_checkpoint(fixture_path("formats/transformer_" + file + ".safetensors"));
    const Tensors weights = weights_of(checkpoint, device());
    EXPECT_EQ(weights.size(), 42U) << file;  // scales and marks are no weights
    size_t compared = 0;
    for (const auto& [name, weight] : expected) {
      if (name.starts_with(file + "/")) {
        // one product, rounded once in both
        EXPECT_TRUE(weights.at(name.substr(file.size() + 1)).equal(weight)) << name;
        ++compared;
      }
    }
    EXPECT_GE(compared, 10U) << file;
    EXPECT_EQ(fp8_scales(checkpoint).size(), file == "plain" ? 0U : 10U);
  }
}

class BrokenFp8 : public ::testing::Test {
 protected:
  BrokenFp8() {
    const Tensors whole = read_tensors(fixture_path("formats/transformer_newer.safetensors"));
    tensors_ = whole;
  }
  std::string refusal(const std::map<std::string, std::string>& metadata = {}) const {
    save_safetensors(file_, tensors_, metadata);
    try {
      weights_of(open_checkpoint(file_));
    } catch (const InputError& error) {
      EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      return error.what();
    }
    return "";
  }
  static at::Tensor bytes(const std::string& text) {
    return torch::tensor(std::vector<uint8_t>(text.begin(), text.end()), at::kByte);
  }

  const TemporaryFolder folder_;
  const std::filesystem::path file_ = folder_ / "a.safetensors";
  const std::string layer_ = "blocks.0.ffn.0";
  Tensors tensors_;
};

TEST_F(BrokenFp8, AGoodOneIsTaken) {
  EXPECT_EQ(refusal(), "");
}

TEST_F(BrokenFp8, ScalesThatAreNoneOrMissing) {
  const std::string scale = layer_ + ".weight_scale";
  for (const at::Tensor& bad : {torch::tensor(NAN), torch::tensor(INFINITY), torch::ones({24})}) {
    tensors_[scale] = bad;
    EXPECT_NE(refusal().find("expected one finite number as scale"), std::string::npos);
  }
  tensors_.erase(scale);
  EXPECT_NE(refusal().find("\"blocks.0.ffn.0.weight\" has no scale"), std::string::npos);
}

TEST_F(BrokenFp8, AScaleOfSomethingElse) {
  tensors_["blocks.0.norm3.weight_scale"] = torch::tensor(1.0F);
  EXPECT_NE(refusal().find("which is of BF16, expected fp8"), std::string::npos);
  tensors_.erase("blocks.0.norm3.weight_scale");
  tensors_["blocks.7.ffn.0.scale_weight"] = torch::tensor(1.0F);
  EXPECT_NE(refusal().find("which is not there"), std::string::npos);
}

TEST_F(BrokenFp8, OtherFormats) {
  tensors_[layer_ + ".comfy_quant"] = bytes(R"({"format": "nvfp4"})");
  EXPECT_NE(refusal().find("found the format \"nvfp4\""), std::string::npos);
  tensors_[layer_ + ".comfy_quant"] = bytes("{");
  EXPECT_NE(refusal().find("comfy_quant"), std::string::npos);
  tensors_[layer_ + ".comfy_quant"] = torch::ones({3});
  EXPECT_NE(refusal().find("expected JSON in bytes"), std::string::npos);
  tensors_.erase(layer_ + ".comfy_quant");
  EXPECT_NE(refusal({{"_quantization_metadata", R"({"layers": {"a": {"format": "int8"}}})"}})
                .find("found the format \"int8\""),
            std::string::npos);
  EXPECT_NE(refusal({{"_quantization_metadata", "[]"}}).find("\"layers\""), std::string::npos);
}

}  // namespace
}  // namespace ospnext
