// LoRAs go to PEFT and come from it with equal sums. tools/make_lora_training_fixtures.py made the
// folders with ospnext train and PEFT, and the sums with PEFT.
#include "packages/save_adapter.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/readers/bounded_json.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "packages/part_layouts.h"
#include "support/compare.h"
#include "support/paths.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

constexpr double kRounding = 1e-6;  // of the largest value: a few roundings of 6e-8

TransformerConfig shipped_sizes() {
  const std::filesystem::path model = std::filesystem::path(OSPNEXT_SOURCE) / "models/tiny";
  return read_transformer_config(
      find_model_files({.model = model}).require(ModelPart::kTransformer));
}

std::filesystem::path folder_of(const std::string& name) {
  return fixture_path("lora_training/" + name);
}

// The change of a layer's output for x.
at::Tensor sum_of(const LowRank& change, const at::Tensor& x) {
  return change.factor * at::mv(change.up.to(at::kDouble),
                                at::mv(change.down.to(at::kDouble), x.to(at::kDouble)));  // [out]
}

void write(const std::filesystem::path& folder, const Adapter& adapter,
           const TransformerConfig& sizes) {
  TensorOutputs outputs;
  for (const auto& [name, tensor] : peft_tensors(adapter)) {
    outputs[name] = {DType::kF32, tensor.sizes().vec(),
                     [tensor = tensor](const PieceSink& sink) { sink(tensor); }};
  }
  write_peft_folder(folder, outputs, peft_config(adapter, part_shapes(sizes)));
}

TEST(SaveAdapter, HasTheSumsThatPeftComputes) {
  const auto sums = read_tensors(folder_of("sums.safetensors"));
  for (const char* name : {"drawn", "peft", "continued"}) {
    const std::string prefix = std::string(name) + ".";
    const Adapter adapter = load_adapter(folder_of(name), shipped_sizes());
    size_t compared = 0;
    for (const auto& [key, expected] : sums) {
      if (key.starts_with(prefix)) {
        const std::string layer = key.substr(prefix.size());
        ASSERT_EQ(adapter.changes.count(layer), 1U) << layer;
        const LowRank& change = adapter.changes.find(layer)->second;
        EXPECT_LT(relative_max(sum_of(change, sums.at("x." + layer)), expected), kRounding) << key;
        ++compared;
      }
    }
    EXPECT_EQ(compared, adapter.changes.size()) << name;
    EXPECT_GE(compared, 3U);
  }
}

// So what PEFT read is what is written today.
TEST(SaveAdapter, WritesTheFilesThatPeftRead) {
  const TemporaryFolder written;
  for (const char* name : {"drawn", "continued"}) {
    write(written.path(), load_adapter(folder_of(name), shipped_sizes()), shipped_sizes());
    EXPECT_EQ(read_json_file(written / "adapter_config.json"),
              read_json_file(folder_of(name) / "adapter_config.json"))
        << name;
    const auto before = read_tensors(folder_of(name) / "adapter_model.safetensors");
    const auto after = read_tensors(written / "adapter_model.safetensors");
    ASSERT_EQ(before.size(), after.size());
    for (const auto& [key, tensor] : before) {
      EXPECT_TRUE(at::equal(tensor, after.at(key))) << key;
    }
  }
}

TEST(SaveAdapter, KeepsTheLowestNoiseLevel) {
  const TransformerConfig sizes = tiny_transformer_config();
  const LowRankChange change{.parameter = "blocks.0.ffn.0.weight",
                             .down = at::ones({1, sizes.dim}),
                             .up = at::ones({sizes.ffn_dim, 1}),
                             .factor = 0.5};
  for (const double level : {0.0, 0.9}) {
    LowRankChange one = change;
    one.lowest_noise_level = level;
    const TemporaryFolder folder;
    write(folder.path(), make_adapter({one}, at::kFloat), sizes);
    EXPECT_EQ(read_json_file(folder / "adapter_config.json").contains("lowest_noise_level"),
              level > 0);
    const Adapter read = load_adapter(folder.path(), sizes);
    EXPECT_EQ(lowest_noise_level(read), level);
    EXPECT_EQ(lowest_noise_level(read.on(at::kCPU)), level);
  }
}

TEST(SaveAdapter, NamesEndingsWherePeftFindsNoOtherLayers) {
  const TransformerConfig sizes = tiny_transformer_config();
  const TensorShapes shapes = part_shapes(sizes);
  std::vector<LowRankChange> changes;
  for (const std::string& layer : linear_layers(shapes)) {
    if (layer.ends_with(".self_attn.q") || layer == "blocks.0.ffn.2") {
      const std::vector<int64_t>& shape = shapes.at(layer + ".weight");
      changes.push_back({layer + ".weight", at::ones({1, shape[1]}), at::ones({shape[0], 1}), 0.5});
    }
  }
  const nlohmann::json config = peft_config(make_adapter(changes, at::kFloat), shapes);
  EXPECT_EQ(config["target_modules"], (nlohmann::json{"blocks.0.ffn.2", "self_attn.q"}));
  EXPECT_EQ(config["r"], 1);
  EXPECT_EQ(config["lora_alpha"], 0.5);
  EXPECT_TRUE(config["rank_pattern"].empty());
}

}  // namespace
}  // namespace ospnext
