// ospnext convert --checkpoint: a LoRA's checkpoint becomes a folder that generate's readers take.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/weights.h"

namespace ospnext {
namespace {

class ConvertCheckpoint : public testing::Test {
 protected:
  ConvertCheckpoint() {
    const std::string layer = "base_model.model.blocks.0.self_attn.q.";
    std::filesystem::create_directories(checkpoint());
    save_safetensors(
        checkpoint() / "rank-00000.safetensors",
        {{"ema." + layer + "lora_A.weight", at::ones({4})},
         {"ema." + layer + "lora_B.weight", at::ones({3})},
         {"parameter." + layer + "lora_A.weight", at::full({4}, 2.0)},
         {"parameter." + layer + "lora_B.weight", at::full({3}, 2.0)}},
        {{"first", "{\"" + layer + "lora_A.weight\": 0, \"" + layer + "lora_B.weight\": 0}"}});
    write_index({{"lora", {{"peft_type", "LORA"}, {"r", 1}, {"lora_alpha", 5}}}});
  }

  std::filesystem::path checkpoint() const { return folder_ / "step-00000002"; }
  std::string output() const { return (folder_ / "out").string(); }
  void write_index(const nlohmann::json& model) const {
    const std::string layer = "base_model.model.blocks.0.self_attn.q.";
    std::ofstream(checkpoint() / "index.json") << nlohmann::json{
        {"format", 1},
        {"step", 2},
        {"files", {"rank-00000.safetensors"}},
        {"numbers", nlohmann::json::object()},
        {"shapes", {{layer + "lora_A.weight", {1, 4}}, {layer + "lora_B.weight", {3, 1}}}},
        {"model", model}};
  }
  Outcome convert(const Arguments& flags) const {
    Arguments arguments = {"convert", "--checkpoint", checkpoint().string(), "--output", output()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_here(arguments);
  }

  const TemporaryFolder folder_;
};

TEST_F(ConvertCheckpoint, WritesTheWeightsThatAreWanted) {
  for (const auto& [weights, value] : {std::pair("ema", 1.0), std::pair("raw", 2.0)}) {
    const Outcome outcome = convert({"--weights", weights, "--dtype", "bf16"});
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto tensors = read_tensors(folder_ / "out" / "adapter_model.safetensors");
    const at::Tensor up = tensors.at("base_model.model.blocks.0.self_attn.q.lora_B.weight");
    EXPECT_TRUE(at::equal(up, at::full({3, 1}, value, at::kBFloat16))) << weights;
    const Outcome seen = run_here({"inspect", output()});
    EXPECT_EQ(seen.status, 0) << seen.err;
    EXPECT_NE(seen.out.find("PEFT"), std::string::npos) << seen.out;
    std::filesystem::remove_all(output());
  }
}

TEST_F(ConvertCheckpoint, IsRefusedInOneSentence) {
  const auto refused = [&](const std::string& message, const Arguments& flags) {
    EXPECT_TRUE(refuses(convert(flags), message));
    EXPECT_EQ(folder_.names(), (std::vector<std::string>{"step-00000002"})) << message;
  };
  refused("--weights: found \"old\", expected ema or raw", {"--weights", "old"});
  refused("--layout: found wan for the checkpoint of a LoRA", {"--layout", "wan"});
  refused("--dtype: found \"int\"", {"--dtype", "int"});
  write_index({{"sizes", 3}});
  refused("it does not say the sizes of a transformer", {"--layout", "wan"});
  write_index({{"transformer", {{"dim", 0}}}, {"text_encoder", 4}});
  refused("step-00000002: ffn_dim is missing", {"--layout", "diffusers"});
  std::filesystem::remove(checkpoint() / "index.json");
  refused("found no index.json, expected a complete checkpoint of a training", {});
  EXPECT_TRUE(refuses(run_here({"convert", "--weights", "raw", "--output", output(), "--layout",
                                "wan", "--model", source_path("models/tiny")}),
                      "--weights: found raw without --checkpoint"));
}

}  // namespace
}  // namespace ospnext
