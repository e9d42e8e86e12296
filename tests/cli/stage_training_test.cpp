// ospnext stage optimizer and noise-levels against torch and OSP-Next's formulas
// (tools/make_training_fixtures.py), and their refusals.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/readers/tensor_file.h"
#include "io/weights.h"
#include "support/compare.h"

namespace ospnext {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

constexpr double kSingleOperation = 1e-6;  // of the largest value
constexpr double kAdamW = 2e-6;            // the same
constexpr double kClip = 1e-12;            // the same

std::string fixture_file(const std::string& name) {
  return fixture_path("training/" + name + ".safetensors");
}

class TrainingStages : public testing::Test {
 protected:
  Outcome stage(const Arguments& flags, const Tensors& tensors) const {
    save_safetensors(input(), tensors);
    Arguments arguments = {"stage", name_, "--input", input(), "--output", output()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return run_here(arguments);
  }
  Tensors result(const Arguments& flags, const Tensors& tensors) const {
    const Outcome outcome = stage(flags, tensors);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.status == 0 ? read_tensors(output()) : Tensors();
  }
  void expect_refusal(const Arguments& flags, const Tensors& tensors,
                      const std::string& part) const {
    EXPECT_TRUE(refuses(stage(flags, tensors), part));
    EXPECT_EQ(folder_.names(), (std::vector<std::string>{"in.safetensors"})) << part;
  }
  std::string input() const { return (folder_ / "in.safetensors").string(); }
  std::string output() const { return (folder_ / "out.safetensors").string(); }

  const TemporaryFolder folder_;
  std::string name_;
};

class StageOptimizer : public TrainingStages {
 protected:
  StageOptimizer() { name_ = "optimizer"; }
};

class StageNoiseLevels : public TrainingStages {
 protected:
  StageNoiseLevels() { name_ = "noise-levels"; }
};

TEST_F(StageOptimizer, ClipsAsOspNext) {
  const Tensors fixture = read_tensors(fixture_file("clip"));
  for (const std::string name : {"small", "large", "huge", "zeros"}) {
    const Tensors out = result({"--mode", "clip"}, {{"norms", fixture.at("norms_" + name)}});
    ASSERT_EQ(out.size(), 1u) << name;
    EXPECT_EQ(out.at("clip").scalar_type(), at::kDouble);
    const at::Tensor& expected = fixture.at("clip_" + name);
    ASSERT_EQ(out.at("clip").sizes(), expected.sizes());
    for (int64_t column = 0; column < 4; ++column) {
      EXPECT_LE(relative_max(out.at("clip").select(1, column), expected.select(1, column)), kClip)
          << name << " " << column;
    }
  }
}

TEST_F(StageOptimizer, AveragesAsOspNext) {
  const Tensors fixture = read_tensors(fixture_file("ema"));
  for (const auto& [name, flags] :
       {std::pair("0.9999_1", Arguments{}), std::pair("0.9_1", Arguments{"--decay", "0.9"}),
        std::pair("0.5_3", Arguments{"--decay=0.5", "--every=3"})}) {
    Arguments all = {"--mode", "ema"};
    all.insert(all.end(), flags.begin(), flags.end());
    const at::Tensor& parameters = fixture.at(std::string("parameters_") + name);
    const at::Tensor& expected = fixture.at(std::string("shadow_") + name);
    const Tensors out = result(all, {{"parameters", parameters}});
    ASSERT_EQ(out.size(), 1u) << name;
    EXPECT_EQ(out.at("shadow").scalar_type(), at::kFloat);
    EXPECT_LE(relative_max(out.at("shadow"), expected), kSingleOperation) << name;
    EXPECT_TRUE(out.at("shadow")[0].equal(parameters[0])) << name;
    all.emplace_back("--warm-up");
    EXPECT_GT(relative_max(result(all, {{"parameters", parameters}}).at("shadow"), expected), 1e-2)
        << "a planted mistake";
  }
}

TEST_F(StageOptimizer, UpdatesAsTorchAdamW) {
  const Tensors fixture = read_tensors(fixture_file("adamw"));
  const auto settings =
      nlohmann::json::parse(open_checkpoint(fixture_file("adamw")).metadata().at("other"));
  const auto flag = [&](const char* key) { return settings.at(key).dump(); };
  const Arguments other = {"--learning-rate", flag("lr"),
                           "--epsilon",       flag("eps"),
                           "--weight-decay",  flag("weight_decay"),
                           "--beta1",         settings.at("betas").at(0).dump(),
                           "--beta2",         settings.at("betas").at(1).dump()};
  for (const auto& [name, flags] : {std::pair("osp", Arguments{}), std::pair("other", other)}) {
    const Tensors in = {{"parameter", fixture.at(std::string("parameter_") + name)},
                        {"gradients", fixture.at(std::string("gradients_") + name)}};
    Arguments all = {"--mode", "adamw"};
    all.insert(all.end(), flags.begin(), flags.end());
    const Tensors out = result(all, in);
    ASSERT_EQ(out.size(), 1u) << name;
    EXPECT_EQ(out.at("parameter").scalar_type(), at::kFloat);
    for (const std::string kind : {"double_", "single_"}) {
      const double error = relative_max(out.at("parameter"), fixture.at(kind + name));
      std::printf("  AdamW %s%s: %.2e of the largest value\n", kind.c_str(), name, error);
      EXPECT_LE(error, kAdamW) << kind << name;
    }
  }
}

TEST_F(StageOptimizer, OfAdamWNoticesOtherSettings) {
  const Tensors fixture = read_tensors(fixture_file("adamw"));
  const Tensors in = {{"parameter", fixture.at("parameter_osp")},
                      {"gradients", fixture.at("gradients_osp")}};
  for (const Arguments& flags :
       {Arguments{"--weight-decay", "0"}, Arguments{"--learning-rate", "1.1e-4"},
        Arguments{"--beta1", "0.89"}, Arguments{"--beta2", "0.99"},
        Arguments{"--epsilon", "1e-8"}}) {
    Arguments all = {"--mode", "adamw"};
    all.insert(all.end(), flags.begin(), flags.end());
    EXPECT_GT(relative_max(result(all, in).at("parameter"), fixture.at("double_osp")), 2 * kAdamW)
        << flags[0];
  }
}

TEST_F(StageOptimizer, TakesScalarsAndOtherFloatingTypes) {
  const Tensors scalar = result(
      {"--mode", "adamw"}, {{"parameter", torch::tensor(1.0f)}, {"gradients", torch::ones({2})}});
  EXPECT_EQ(scalar.at("parameter").sizes(), at::IntArrayRef{2});
  const Tensors wide =
      result({"--mode", "ema"}, {{"parameters", torch::ones({3, 2}, at::kDouble)}});
  EXPECT_EQ(wide.at("shadow").scalar_type(), at::kFloat);
  const Outcome outcome =
      stage({"--mode", "clip"}, {{"norms", torch::ones({2})}, {"parameters", torch::ones({2})}});
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.err.find("the tensor \"parameters\" is not used here"), std::string::npos);
}

TEST_F(StageOptimizer, RefusesBadTensors) {
  const at::Tensor three = torch::ones({3});
  const auto refused = [&](const char* mode, const std::string& part, const Tensors& tensors) {
    expect_refusal({"--mode", mode}, tensors, input() + ": " + part);
  };
  refused("clip", "there is no tensor \"norms\", expected norms [N]", {{"x", three}});
  refused("clip", "norms: found shape [3, 1], expected [N]", {{"norms", torch::ones({3, 1})}});
  refused("clip", "norms: found shape [0]", {{"norms", torch::ones({0})}});
  refused("clip", "norms: found", {{"norms", torch::ones({3}, at::kLong)}});
  for (const double bad : {std::nan(""), std::numeric_limits<double>::infinity()}) {
    refused("clip", "norms: holds NaN or infinite", {{"norms", torch::tensor({1.0, bad})}});
  }
  refused("clip", "norms: found values below 0", {{"norms", torch::tensor({1.0, -0.5})}});
  refused("ema", "there is no tensor \"parameters\"", {{"norms", three}});
  refused("ema", "parameters: found shape []", {{"parameters", torch::tensor(1.0f)}});
  refused("ema", "parameters: holds NaN", {{"parameters", torch::full({2, 2}, NAN)}});
  refused("adamw", "there is no tensor \"parameter\"", {{"gradients", three}});
  refused("adamw", "there is no tensor \"gradients\"", {{"parameter", three}});
  refused("adamw", "gradients: found shape [2, 4], expected [N, 3]",
          {{"parameter", three}, {"gradients", torch::ones({2, 4})}});
  refused("adamw", "gradients: found shape [3], expected [N, 3]",
          {{"parameter", three}, {"gradients", three}});
  refused("adamw", "gradients: found shape [2, 1], expected [N]",
          {{"parameter", torch::tensor(1.0f)}, {"gradients", torch::ones({2, 1})}});
  refused("adamw", "gradients: found shape [0, 3]",
          {{"parameter", three}, {"gradients", torch::ones({0, 3})}});
  refused("adamw", "gradients: holds NaN",
          {{"parameter", three}, {"gradients", torch::full({2, 3}, NAN)}});
}

TEST_F(StageOptimizer, RefusesBadFlags) {
  const Tensors in = {{"norms", torch::ones({2})},
                      {"parameters", torch::ones({2})},
                      {"parameter", torch::ones({2})},
                      {"gradients", torch::ones({2, 2})}};
  const auto refused = [&](const Arguments& flags, const std::string& part) {
    expect_refusal(flags, in, part);
  };
  refused({}, "--mode: found \"\", expected clip, ema or adamw");
  refused({"--mode", "sgd"}, "--mode: found \"sgd\", expected clip, ema or adamw");
  refused({"--mode", "clip", "--decay", "0.9"},
          "--decay: found with the mode clip, expected with ema only");
  refused({"--mode", "adamw", "--every", "2"}, "--every: found with the mode adamw");
  refused({"--mode", "ema", "--learning-rate", "1"},
          "--learning-rate: found with the mode ema, expected with adamw only");
  refused({"--mode", "clip", "--beta2", "0.5"}, "--beta2: found with the mode clip");
  refused({"--mode", "ema", "--decay", "1"}, "--decay: found 1.0, expected 0.0 to 0.9999999");
  refused({"--mode", "ema", "--every", "0"}, "--every: found 0, expected 1 to");
  refused({"--mode", "adamw", "--learning-rate", "-1"}, "--learning-rate: found -1.0");
  refused({"--mode", "adamw", "--learning-rate", "nan"}, "--learning-rate: found \"nan\"");
  refused({"--mode", "adamw", "--weight-decay", "2"}, "--weight-decay: found 2.0");
  refused({"--mode", "adamw", "--epsilon", "-1"}, "--epsilon: found -1.0");
  refused({"--mode", "adamw", "--beta1", "1"}, "--beta1: found 1.0");
  refused({"--mode", "clip", "--device", "tpu"}, "--device");
  refused({"--mode", "clip", "--precision", "fp7"}, "--precision");
}

TEST_F(StageNoiseLevels, FollowOspNext) {
  const Tensors fixture = read_tensors(fixture_file("noise_levels"));
  for (const std::string shift : {"1", "3", "7", "90x160", "60x104", "16x16", "2x6"}) {
    const Arguments flags =
        shift == "1" ? Arguments{}  // the default
                     : Arguments{shift.size() > 1 ? "--dynamic-shift" : "--shift", shift};
    for (const std::string kind : {"normal", "uniform"}) {
      const Tensors out = result(flags, {{kind, fixture.at(kind)}});
      ASSERT_EQ(out.size(), 2u) << kind << " " << shift;
      EXPECT_EQ(out.at("sigma").scalar_type(), at::kFloat);
      EXPECT_EQ(out.at("shift").scalar_type(), at::kFloat);
      EXPECT_LE(relative_max(out.at("shift"), fixture.at("shift_" + shift)), kSingleOperation);
      EXPECT_LE(relative_max(out.at("sigma"), fixture.at("sigma_" + kind + "_" + shift)),
                kSingleOperation)
          << kind << " " << shift;
    }
  }
}

TEST_F(StageNoiseLevels, RefuseBadInput) {
  const at::Tensor draws = torch::rand({3});
  const auto refused = [&](const std::string& part, const Tensors& tensors,
                           const Arguments& flags = {}) { expect_refusal(flags, tensors, part); };
  refused(input() + ": normal and uniform: found neither, expected one", {{"x", draws}});
  refused(input() + ": normal and uniform: found both", {{"normal", draws}, {"uniform", draws}});
  refused("normal: found shape [3, 2], expected [N]", {{"normal", torch::randn({3, 2})}});
  refused("normal: holds NaN", {{"normal", torch::full({2}, NAN)}});
  refused("uniform: found", {{"uniform", torch::ones({2}, at::kLong)}});
  refused("uniform: found values outside of 0 to 1", {{"uniform", torch::tensor({0.5, 1.5})}});
  refused("uniform: found values outside of 0 to 1", {{"uniform", torch::tensor({-0.5, 0.5})}});
  refused("--shift and --dynamic-shift: found both", {{"normal", draws}},
          {"--shift", "3", "--dynamic-shift", "90x160"});
  refused("--shift: found 0.0", {{"normal", draws}}, {"--shift", "0"});
  refused("--shift: found -1.0", {{"normal", draws}}, {"--shift", "-1"});
  refused("--shift: found \"nan\"", {{"normal", draws}}, {"--shift", "nan"});
  for (const std::string size : {"", "90", "90x", "x160", "90x160x3", "90*160", "-90x160", "0x160",
                                 "90x161", "45x160", "99999999999999999999x2"}) {
    refused("--dynamic-shift: found \"" + size + "\", expected height x width", {{"normal", draws}},
            {"--dynamic-shift=" + size});
  }
  refused("--dynamic-shift: found 4096x4096, expected a latent whose shift is at most 1000",
          {{"normal", draws}}, {"--dynamic-shift", "4096x4096"});
}

}  // namespace
}  // namespace ospnext
