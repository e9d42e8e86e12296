// HiFloat8 on the command line: the stage, the precision, and quantize.
#include <gtest/gtest.h>

#include <cmath>

#include "cli/tiny_model_fixture.h"
#include "io/weights.h"
#include "quant/hif8_tensors.h"
#include "support/compare.h"

namespace ospnext {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

class Hif8Stage : public testing::Test {
 protected:
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string input(const Tensors& tensors) const {
    save_safetensors(path("in.safetensors"), tensors);
    return path("in.safetensors");
  }
  Outcome stage(const at::Tensor& x, const Arguments& flags) const {
    Arguments all = {"stage",           "hif8",     "--input",
                     input({{"x", x}}), "--output", path("out.safetensors")};
    all.insert(all.end(), flags.begin(), flags.end());
    return run_here(all);
  }
  Tensors result(const at::Tensor& x, const Arguments& flags) const {
    const Outcome outcome = stage(x, flags);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err + outcome.out, "");
    return read_tensors(path("out.safetensors"));
  }
  void expect_refusal(const at::Tensor& x, const Arguments& flags, const std::string& part) const {
    EXPECT_TRUE(refuses(stage(x, flags), part));
    EXPECT_EQ(folder_.names(), std::vector<std::string>{"in.safetensors"});
  }

  const TemporaryFolder folder_;
};

TEST_F(Hif8Stage, WritesCodesAndValues) {
  const at::Tensor x = torch::tensor({0.F, -0.F, 1.F, -1.1F, 15.5F, 4e4F, -5e4F, NAN, INFINITY});
  const Tensors out = result(x, {});
  EXPECT_EQ(out.size(), 2U);
  EXPECT_TRUE(torch::equal(
      out.at("codes"),
      torch::tensor({0x00, 0x00, 0x08, 0x89, 0x40, 0x6E, 0xEF, 0x80, 0x6F}).to(torch::kUInt8)));
  const at::Tensor values =
      torch::tensor({0.F, 0.F, 1.F, -1.125F, 16.F, 32768.F, -INFINITY, NAN, INFINITY});
  EXPECT_TRUE(torch::allclose(out.at("values"), values, 0, 0, /*equal_nan=*/true));

  const Tensors saturated = result(x, {"--saturate"});
  EXPECT_TRUE(
      torch::equal(saturated.at("values"),
                   torch::tensor({0.F, 0.F, 1.F, -1.125F, 16.F, 32768.F, -32768.F, 0.F, 32768.F})));
}

TEST_F(Hif8Stage, ScalesWhenAsked) {
  const at::Tensor x = torch::tensor({{0.1F, -0.4F}, {0.2F, 0.003F}});
  const Tensors out = result(x, {"--amax-to", "15"});
  const at::Tensor scale = out.at("scale");
  EXPECT_EQ(scale.dim(), 0);
  EXPECT_EQ(scale.item<float>(), 15.F / 0.4F);
  EXPECT_TRUE(torch::equal(out.at("codes"), hif8::encode(x * scale)));
  EXPECT_TRUE(torch::equal(out.at("values"), hif8::decode(out.at("codes")) / scale));
  EXPECT_EQ(result(x, {"--amax-to=224"}).at("scale").item<float>(), 224.F / 0.4F);
  EXPECT_EQ(result(x * 0, {"--amax-to=15"}).at("scale").item<float>(), 15.F / 1e-8F);
}

TEST_F(Hif8Stage, TakesEveryShapeAndOtherFloats) {
  EXPECT_EQ(result(torch::tensor(3.F), {}).at("codes").dim(), 0);
  const Tensors empty = result(torch::zeros({0, 8}), {"--amax-to=15"});
  EXPECT_EQ(empty.at("values").sizes(), (at::IntArrayRef{0, 8}));
  const Tensors half = result(torch::tensor({1.F, 3.F}).to(torch::kHalf), {});
  EXPECT_EQ(half.at("values").scalar_type(), torch::kFloat32);
}

TEST_F(Hif8Stage, Refusals) {
  const at::Tensor x = torch::ones({2});
  expect_refusal(x, {"--amax-to", "0"}, "--amax-to: found 0");
  expect_refusal(x, {"--amax-to", "nan"}, "--amax-to");
  expect_refusal(x, {"--amax-to", "40000"}, "--amax-to: found 40000");
  expect_refusal(torch::tensor({1.F, NAN}), {"--amax-to", "15"}, "x: holds NaN or infinite");
  expect_refusal(torch::ones({2}, torch::kInt32), {}, "x: found int, expected float32");
  expect_refusal(torch::ones({2}, torch::kFloat64), {}, "x: found double, expected float32");
  expect_refusal(x, {"--device", "tpu"}, "--device");
  expect_refusal(x, {"--saturated"}, "did you mean --saturate?");
  const std::string other = input({{"y", x}});
  EXPECT_TRUE(refuses(run_here({"stage", "hif8", "--input", other, "--output", path("o")}),
                      "there is no tensor \"x\", expected x [...]"));
  EXPECT_TRUE(refuses(run_here({"stage", "hif8", "--output", path("o")}), "--input: missing"));
  EXPECT_TRUE(refuses(run_here({"stage", "hif8", "--input", other}), "--output: missing"));
}

class Hif8Commands : public WithTinyModel {
 protected:
  at::Tensor velocity(const Arguments& flags) const {
    Arguments all = {"stage", "denoise", "--input", path("in"), "--output", path("out")};
    all.insert(all.end(), flags.begin(), flags.end());
    const Outcome outcome = run_here(all);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return read_tensors(path("out")).at("velocity");
  }
};

TEST_F(Hif8Commands, DenoiseTakesTheSimulatedPrecisionAndQuantizedWeights) {
  save_safetensors(path("in"), {{"latent", torch::randn({2, 16, 1, 4, 6})},
                                {"text", torch::randn({2, 512, 32})},
                                {"timestep", torch::tensor({800.F, 300.F})}});
  const at::Tensor plain = velocity({"--model", model()});
  const at::Tensor simulated = velocity({"--model", model(), "--precision", "hif8-simulated"});
  EXPECT_GT(relative_l2(simulated, plain), 1e-4);
  EXPECT_LT(relative_l2(simulated, plain), 0.1);

  const Outcome outcome = run_here({"quantize", "--model", model(), "--output", path("q")});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.out.find(path("q/diffusion_pytorch_model.safetensors: transformer, 20 of 69")),
            0U)
      << outcome.out;
  for (const char* flag : {"--transformer", "--model"}) {
    EXPECT_TRUE(
        torch::equal(velocity({flag, path("q"), "--precision", "hif8-simulated"}), simulated));
  }
  EXPECT_LT(relative_l2(velocity({"--transformer", path("q")}), plain), 0.1);
  velocity({"--transformer", path("q"), "--precision", "bf16"});
  const Outcome inspected = run_here({"inspect", path("q")});
  EXPECT_NE(inspected.out.find("hif8 weights"), std::string::npos) << inspected.out;
}

TEST_F(Hif8Commands, GenerateRemembersTheSimulatedPrecision) {
  const Outcome outcome =
      run_here({"generate", "--model", model(), "--prompt", "a red ball", "--steps=2",
                "--precision=hif8-simulated", "--output", path("clip.y4m")});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(file_text(path("clip.json")).find("\"hif8-simulated\""), std::string::npos);
}

TEST_F(Hif8Commands, Refusals) {
  const std::string out = path("o");
  EXPECT_TRUE(refuses(run_here({"stage", "encode-text", "--model", model(), "--prompt=", "--output",
                                out, "--precision", "hif8-simulated"}),
                      "--precision: found \"hif8-simulated\", expected float32 or bf16"));
  save_safetensors(path("in"), {{"x", torch::ones({1})}});
  EXPECT_TRUE(refuses(
      run_here({"stage", "denoise", "--model", model(), "--input", path("in"), "--output", out,
                "--precision", "fp8"}),
      "--precision: found \"fp8\", expected float32, bf16, hif8, hif8-p8 or hif8-simulated"));
  EXPECT_TRUE(refuses(run_here({"stage", "denoise", "--model", model(), "--input", path("in"),
                                "--output", out, "--precision", "hif8", "--device", "cpu"}),
                      "--precision: found hif8 on cpu, expected a CUDA GPU"));
  EXPECT_TRUE(refuses(run_here({"quantize", "--model", model()}), "--output: missing"));
  EXPECT_TRUE(refuses(run_here({"quantize", "--output", out}), "--"));
  EXPECT_TRUE(refuses(run_here({"quantize", "--model", path("none"), "--output", out}),
                      "no such directory"));
  EXPECT_TRUE(refuses(run_here({"quantize", "--model", model(), "--output", model()}),
                      "expected a new or an empty folder"));
  EXPECT_TRUE(refuses(run_here({"quantize", "--model", model(), "--output", out, "--shard-size=0"}),
                      "--shard-size: found 0"));
  EXPECT_TRUE(refuses(run_here({"quantize", "--transformer", model() + "/vae", "--output", out}),
                      "expected a Wan or OSP-Next transformer"));
  EXPECT_EQ(folder_.names(), std::vector<std::string>{"in"});
}

}  // namespace
}  // namespace ospnext
