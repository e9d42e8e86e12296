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

// Spellings of scales, and shapes with the blocks that they stand for, of a weight [300, 256].
struct ScaleCase {
  const char* name;
  std::vector<int64_t> shape;
  int64_t block_rows, block_columns;
};

const ScaleCase kScaleCases[] = {
    {"x.scale_weight", {}, 300, 256},         {"x.weight_scale", {1}, 300, 256},
    {"x.weight_scale_inv", {1, 1}, 300, 256}, {"x.scale_weight", {300}, 1, 256},
    {"x.scale_weight", {300, 1}, 1, 256},     {"x.weight_scale", {300}, 1, 256},
    {"x.weight_scale", {300, 1}, 1, 256},     {"x.weight_scale_inv", {3, 2}, 128, 128},
    {"x.weight_scale", {3, 2}, 128, 128},     {"x.scale_weight", {300, 4, 1}, 1, 64},
    {"x.weight_scale", {30, 4}, 10, 64},      {"x.weight_scale", {1, 256}, 300, 1},
};

TEST_P(ScaledFp8OnDevice, EverySpellingAndShapeOfAScaleMultipliesItsBlocks) {
  const TemporaryFolder folder;
  torch::manual_seed(5);
  const at::Tensor stored = torch::randn({300, 256}).to(at::kFloat8_e4m3fn);
  for (const auto& [name, shape, block_rows, block_columns] : kScaleCases) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      const at::Tensor scale = torch::randn(shape).to(dtype);
      save_safetensors(folder / "a", {{"x.weight", stored}, {name, scale}});
      const Checkpoint checkpoint = open_checkpoint(folder / "a");
      const WeightSource source = weight_sources(checkpoint, [](const std::string& file_name) {
                                    return file_name == "x.weight" ? file_name : "";
                                  }).at("x.weight");
      const auto side = [&](int64_t size, int64_t block) {
        return torch::arange(size).div(block, "floor");
      };
      const at::Tensor blocks =
          scale.to(at::kFloat).reshape({(300 + block_rows - 1) / block_rows, -1});
      const at::Tensor expected =
          stored.to(at::kFloat) *
          blocks.index_select(0, side(300, block_rows)).index_select(1, side(256, block_columns));
      for (const RowRange rows : {RowRange{0, 300}, {0, 1}, {299, 1}, {100, 57}, {127, 130}}) {
        at::Tensor found;
        stream_weight(source, rows, checkpoint, {}, device(),
                      [&](int64_t first_row, const at::Tensor& some) {
                        EXPECT_EQ(first_row, rows.first);
                        found = some.to(at::kCPU);
                      });
        EXPECT_TRUE(found.equal(expected.narrow(0, rows.first, rows.count)))
            << name << " " << shape << " " << rows.first;
      }
      EXPECT_FALSE(stored.to(at::kFloat).equal(expected)) << name;
    }
  }
}

TEST(ScaledFp8, ScalesOfRowsFollowTheBlocksThatALargeWeightIsReadIn) {
  torch::manual_seed(6);
  const at::Tensor stored = torch::randn({5000, 16000}, at::kBFloat16).to(at::kFloat8_e4m3fn);
  const at::Tensor scale = torch::rand({5000, 1});  // 80 MB: more than one block
  const auto record = [](DType dtype, const at::Tensor& tensor) {
    return TensorRecord{dtype,
                        tensor.sizes().vec(),
                        tensor.strides().vec(),
                        static_cast<const std::byte*>(tensor.data_ptr()),
                        tensor.nbytes(),
                        {}};
  };
  const Checkpoint checkpoint("memory", {},
                              {{"x.weight", record(DType::kF8E4M3, stored)},
                               {"x.weight_scale", record(DType::kF32, scale)}},
                              {});
  const auto sources = weight_sources(
      checkpoint, [](const std::string& name) { return name == "x.weight" ? name : ""; });
  int64_t end = 0;
  int blocks = 0;
  stream_weight(sources.at("x.weight"), checkpoint, {}, at::kCPU,
                [&](int64_t first_row, const at::Tensor& rows) {
                  EXPECT_EQ(first_row, end);
                  end += rows.size(0);
                  ++blocks;
                  const at::Tensor expected =
                      stored.narrow(0, first_row, rows.size(0)).to(at::kFloat) *
                      scale.narrow(0, first_row, rows.size(0));
                  EXPECT_TRUE(rows.equal(expected)) << first_row;
                });
  EXPECT_EQ(end, 5000);
  EXPECT_GT(blocks, 1);
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
  std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const auto& entry : tensors_) {
      names.push_back(entry.first);
    }
    return names;
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
  for (const at::Tensor& bad : {torch::tensor(NAN), torch::tensor(INFINITY)}) {
    tensors_[scale] = bad;
    EXPECT_NE(refusal().find("expected one finite number as scale"), std::string::npos);
  }
  for (const at::Tensor& bad :
       {torch::ones({23}), torch::ones({25, 1}), torch::ones({24, 5}), torch::ones({2, 3, 2}),
        torch::ones({0}), torch::ones({24}, at::kByte), torch::ones({}, at::kLong)}) {
    tensors_[scale] = bad;
    EXPECT_NE(refusal().find("one for each row or block of the weight [24, 12]"), std::string::npos)
        << bad.sizes();
  }
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    tensors_[scale] = torch::ones({24, 1});
    tensors_[scale][17] = bad;
    EXPECT_NE(refusal().find("\"blocks.0.ffn.0.weight_scale\" holds NaN or infinite"),
              std::string::npos);
  }
  tensors_[scale] = torch::ones({24});
  tensors_[layer_ + ".scale_weight"] = torch::ones({});
  EXPECT_NE(refusal().find("both scale \"blocks.0.ffn.0.weight\""), std::string::npos);
  tensors_.erase(layer_ + ".scale_weight");
  tensors_.erase(scale);
  EXPECT_NE(refusal().find("\"blocks.0.ffn.0.weight\" has no scale"), std::string::npos);
}

TEST_F(BrokenFp8, OneOfSeveralWithoutAScaleInAFileWithoutMarks) {
  for (const auto& name : names()) {
    if (name.ends_with(".comfy_quant")) {
      tensors_.erase(name);
    }
  }
  EXPECT_EQ(refusal(), "");
  tensors_.erase(layer_ + ".weight_scale");
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
