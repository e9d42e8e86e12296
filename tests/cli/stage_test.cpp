// The stage commands: names, shapes and metadata of design.md section 4, and refusals.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "cli/tiny_model_fixture.h"
#include "io/readers/tensor_file.h"
#include "io/weights.h"
#include "models/layout.h"
#include "models/vae_tiling.h"
#include "packages/load_model.h"
#include "schedulers/sampler.h"
#include "support/compare.h"

namespace ospnext {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

class Stages : public WithTinyModel {
 protected:
  Outcome stage(Arguments arguments) const {
    arguments.insert(arguments.begin(), "stage");
    arguments.insert(arguments.end(), {"--output", path("out.safetensors")});
    return run_here(arguments);
  }
  Tensors result(const Arguments& arguments) const {
    const Outcome outcome = stage(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return read_tensors(path("out.safetensors"));
  }
  std::string input(const Tensors& tensors) const {
    save_safetensors(path("in.safetensors"), tensors);
    return path("in.safetensors");
  }
  // A refusal that leaves nothing beside the input.
  void expect_refusal(const Arguments& arguments, const std::string& part) const {
    EXPECT_TRUE(refuses(stage(arguments), part));
    EXPECT_FALSE(std::filesystem::exists(path("out.safetensors")));
    EXPECT_LE(folder_.names().size(), 1u);
  }
};

TEST_F(Stages, EncodeTextWritesIdsMaskAndEmbeddings) {
  write_file(folder_ / "p.txt", "a  red ball\n\nA &amp; B\n");
  const Tensors out = result({"encode-text", "--model", model(), "--prompts", path("p.txt")});
  EXPECT_EQ(out.at("ids").sizes(), (at::IntArrayRef{3, 512}));
  EXPECT_EQ(out.at("ids").scalar_type(), torch::kInt64);
  EXPECT_EQ(out.at("mask").sizes(), (at::IntArrayRef{3, 512}));
  EXPECT_EQ(out.at("mask").scalar_type(), torch::kInt64);
  EXPECT_EQ(out.at("embeddings").sizes(), (at::IntArrayRef{3, 512, 32}));
  const at::Tensor hidden = out.at("mask") == 0;
  EXPECT_EQ(out.at("embeddings").masked_select(hidden.unsqueeze(-1)).abs().sum().item<float>(), 0);
  EXPECT_EQ(out.at("mask")[1].sum().item<int64_t>(), 1);  // the empty prompt is </s> alone
  EXPECT_EQ(out.at("ids")[1][0].item<int64_t>(), 1);
  const auto metadata = open_checkpoint(path("out.safetensors")).metadata();
  EXPECT_EQ(nlohmann::json::parse(metadata.at("cleaned")),
            nlohmann::json({"a red ball", "", "A & B"}));
}

TEST_F(Stages, EncodeTextNeedsOnlyItsOwnParts) {
  result({"encode-text", "--text-encoder=" + part("text_encoder"),
          "--tokenizer=" + part("tokenizer/spiece.model"), "--prompt="});
  const auto metadata = open_checkpoint(path("out.safetensors")).metadata();
  EXPECT_EQ(nlohmann::json::parse(metadata.at("cleaned")), nlohmann::json({""}));
}

TEST_F(Stages, EncodeTextRefusals) {
  expect_refusal({"encode-text", "--model", model()}, "--prompt and --prompts: found neither");
  expect_refusal({"encode-text", "--model", model(), "--prompt", "a", "--prompts", "b"},
                 "found both");
  expect_refusal({"encode-text", "--model", model(), "--prompts", path("none")}, "cannot be read");
  expect_refusal({"encode-text", "--model", model(), "--prompt", "\xff"}, "UTF-8");
  expect_refusal({"encode-text", "--prompt", "a"}, "--tokenizer");
  expect_refusal({"encode-text", "--prompt", "a", "--model", path("none")}, "no such directory");
}

Tensors denoise_input() {
  return {{"latent", torch::randn({2, 16, 2, 4, 6})},
          {"text", torch::randn({2, 512, 32})},
          {"timestep", torch::tensor({1000.0f, 123.456f})}};
}

TEST_F(Stages, DenoiseRunsTheTransformerOnce) {
  const Tensors in = denoise_input();
  const Tensors out = result({"denoise", "--model", model(), "--input", input(in)});
  Transformer transformer(tiny_transformer_config());
  load_weights(*transformer, open_checkpoint(part("transformer")));
  const torch::NoGradGuard no_grad;
  const at::Tensor expected =
      transformer->forward(in.at("latent"), in.at("text"), in.at("timestep"));
  EXPECT_EQ(out.at("velocity").scalar_type(), torch::kFloat32);
  EXPECT_TRUE(torch::equal(out.at("velocity"), expected));
}

TEST_F(Stages, DenoiseInBf16IsCloseButNotEqual) {
  const std::string in = input(denoise_input());
  const at::Tensor exact = result({"denoise", "--model", model(), "--input", in}).at("velocity");
  const at::Tensor rounded =
      result({"denoise", "--model", model(), "--input", in, "--precision", "bf16"}).at("velocity");
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  EXPECT_GT(relative_l2(rounded, exact), 1e-4);
  EXPECT_LT(relative_l2(rounded, exact), 5e-2);  // a few roundings of 2^-9 through two blocks
}

TEST_F(Stages, DenoiseRefusals) {
  const auto refused = [&](const std::string& message, const auto& change) {
    Tensors tensors = denoise_input();
    change(tensors);
    expect_refusal({"denoise", "--transformer", part("transformer"), "--input", input(tensors)},
                   message);
  };
  refused("there is no tensor \"text\"", [](Tensors& t) { t.erase("text"); });
  refused("text: found shape [2, 512, 40]", [](Tensors& t) {
    t["text"] = torch::randn({2, 512, 40});
  });
  refused("text: found shape [1, 512, 32]", [](Tensors& t) {
    t["text"] = torch::randn({1, 512, 32});
  });
  refused("latent: found shape [2, 4, 2, 4, 6]", [](Tensors& t) {
    t["latent"] = torch::randn({2, 4, 2, 4, 6});
  });
  refused("expected even ones", [](Tensors& t) { t["latent"] = torch::randn({2, 16, 2, 5, 6}); });
  refused("timestep: found", [](Tensors& t) { t["timestep"] = torch::tensor({1, 2}); });
  refused("timestep: found shape [2, 1]", [](Tensors& t) { t["timestep"].unsqueeze_(1); });
  refused("outside of 0 to 1000", [](Tensors& t) { t["timestep"][0] = -1; });
  refused("latent: holds NaN", [](Tensors& t) { t["latent"][0][0][0][0][0] = NAN; });
  refused("latent: found shape [0, 16, 2, 4, 6]", [](Tensors& t) {
    t["latent"] = torch::randn({0, 16, 2, 4, 6});
  });
}

TEST_F(Stages, VideoToLatentAndBack) {
  const at::Tensor video = torch::rand({1, 3, 5, 32, 48}) * 2 - 1;
  const at::Tensor latent =
      result({"encode-video", "--model", model(), "--input", input({{"video", video}})})
          .at("latent");
  EXPECT_EQ(latent.sizes(), (at::IntArrayRef{1, 16, 2, 4, 6}));
  const at::Tensor decoded =
      result({"decode-latent", "--vae", part("vae"), "--input", input({{"latent", latent * 3}})})
          .at("video");
  EXPECT_EQ(decoded.sizes(), video.sizes());
  EXPECT_LE(decoded.abs().max().item<float>(), 1.0f);
}

TEST_F(Stages, VideoInTiles) {
  const at::Tensor video = torch::rand({1, 3, 5, 32, 48}) * 2 - 1;
  const auto stage_of = [&](const char* name, const char* tensor, const at::Tensor& value,
                            const std::string& tile) {
    return result(
        {name, "--vae", part("vae"), "--vae-tile", tile, "--input", input({{tensor, value}})});
  };
  const at::Tensor latent = stage_of("encode-video", "video", video, "32,16").at("latent");
  const at::Tensor decoded = stage_of("decode-latent", "latent", latent, "32,16").at("video");
  Vae vae = load_vae(find_model_files({.vae = part("vae")}).require(ModelPart::kVae), {});
  EXPECT_TRUE(torch::equal(latent, encode_tiled(vae, video, {32, 16})));
  std::vector<at::Tensor> pieces;
  decode_tiled(vae, latent, {32, 16}, [&](const at::Tensor& frames) { pieces.push_back(frames); });
  EXPECT_TRUE(torch::equal(decoded, torch::cat(pieces, 2)));
  EXPECT_FALSE(torch::equal(latent, stage_of("encode-video", "video", video, "none").at("latent")));
}

TEST_F(Stages, VideoRefusals) {
  const auto encode = [&](const at::Tensor& video) {
    return Arguments{"encode-video", "--model", model(), "--input", input({{"video", video}})};
  };
  expect_refusal(encode(torch::zeros({1, 3, 4, 32, 48})), "5");  // names the nearest counts
  expect_refusal(encode(torch::zeros({1, 3, 5, 33, 48})), "32");
  for (const char* tile : {"256", "256,300", "250,192", "auto"}) {
    Arguments arguments = encode(torch::zeros({1, 3, 5, 32, 48}));
    arguments.insert(arguments.end(), {"--vae-tile", tile});
    expect_refusal(arguments, "--vae-tile: found");
  }
  expect_refusal(encode(torch::zeros({1, 1, 5, 32, 48})), "video: found shape [1, 1, 5, 32, 48]");
  EXPECT_NE(stage(encode(torch::full({1, 3, 1, 32, 48}, 2.0))).err.find("warning"),
            std::string::npos);
  std::filesystem::remove(folder_ / "out.safetensors");
  expect_refusal(encode(torch::zeros({1, 3, 1, 32, 48}, torch::kUInt8)),
                 "expected a floating type");
  expect_refusal({"decode-latent", "--model", model(), "--input",
                  input({{"latent", torch::zeros({1, 8, 1, 4, 4})}})},
                 "latent: found shape [1, 8, 1, 4, 4], expected [B,16,F,h,w]");
}

TEST_F(Stages, ScheduleWritesLevels) {
  const Tensors out = result({"schedule", "--scheduler", "euler", "--steps", "20", "--shift", "5"});
  EXPECT_EQ(out.size(), 2u);
  EXPECT_TRUE(torch::equal(out.at("sigmas"), exact_schedule(euler_levels(20, 5)).sigmas));
  EXPECT_TRUE(torch::equal(out.at("timesteps"), exact_schedule(euler_levels(20, 5)).timesteps));
}

TEST_F(Stages, ScheduleDrivesTheSamplerWithGivenVelocities) {
  const at::Tensor latent = torch::randn({16, 2, 3}), velocity = torch::randn({4, 16, 2, 3});
  const Tensors out = result({"schedule", "--steps=4", "--shift=7", "--input",
                              input({{"latent", latent}, {"velocity", velocity}})});
  ASSERT_EQ(out.at("latents").sizes(), (at::IntArrayRef{5, 16, 2, 3}));
  EXPECT_TRUE(torch::equal(out.at("latents")[0], latent));
  const at::Tensor sigmas = out.at("sigmas");
  EXPECT_LT(
      relative_max(
          out.at("latents")[4],
          latent +
              ((sigmas.slice(0, 1) - sigmas.slice(0, 0, 4)).view({4, 1, 1, 1}) * velocity).sum(0)),
      1e-6);
}

TEST_F(Stages, ScheduleKnowsEverySampler) {
  const at::Tensor latent = torch::randn({16, 2, 3}), velocity = torch::randn({5, 16, 2, 3});
  const std::string in = input({{"latent", latent}, {"velocity", velocity}});
  for (const std::string& name : sampler_names()) {
    const Tensors out =
        result({"schedule", "--scheduler", name, "--steps=5", "--shift=3", "--input", in});
    const auto sampler = make_sampler(name, 5, 3);
    at::Tensor expected = latent;
    for (int64_t i = 0; i < 5; ++i) {
      expected = sampler->step(i, expected, velocity[i]);
      EXPECT_TRUE(torch::equal(out.at("latents")[i + 1], expected)) << name << " " << i;
    }
    EXPECT_EQ(out.at("sigmas").sizes(), at::IntArrayRef{6}) << name;
    EXPECT_EQ(out.at("sigmas")[5].item<float>(), 0.0f) << name;
    EXPECT_EQ(out.at("timesteps").sizes(), at::IntArrayRef{5}) << name;
    EXPECT_EQ(out.at("timesteps").scalar_type(), torch::kFloat32) << name;
  }
}

TEST_F(Stages, ScheduleTakesWrittenLevels) {
  const Tensors out = result({"schedule", "--scheduler=dpm++", "--sigmas", "1,0.75,0.5"});
  EXPECT_TRUE(torch::equal(out.at("sigmas"), torch::tensor({1.0f, 0.75f, 0.5f, 0.0f})));
  EXPECT_TRUE(torch::equal(out.at("timesteps"), torch::tensor({1000.0f, 750.0f, 500.0f})));
  const Tensors same = result({"schedule", "--sigmas=1,0.75,0.5,0", "--steps=3"});
  EXPECT_TRUE(torch::equal(same.at("sigmas"), out.at("sigmas")));
}

TEST_F(Stages, ScheduleRefusals) {
  const std::string in =
      input({{"latent", torch::randn({16, 2})}, {"velocity", torch::randn({4, 16, 3})}});
  expect_refusal({"schedule", "--steps", "4", "--input", in}, "velocity: found shape [4, 16, 3]");
  expect_refusal({"schedule", "--steps", "5", "--input", in}, "expected [5, 16, 2]");
  expect_refusal({"schedule", "--steps", "0"}, "--steps: found 0");
  expect_refusal({"schedule", "--shift", "-1"}, "--shift: found -1");
  expect_refusal({"schedule", "--scheduler", "eular"}, "expected one of: euler");
  expect_refusal({"schedule", "--sigmas", "0.5,0.75"}, "expected falling ones");
  expect_refusal({"schedule", "--sigmas", "2,1"}, "--sigmas: found 2.0");
  expect_refusal({"schedule", "--sigmas", "1,x"}, "--sigmas: found \"x\"");
  expect_refusal({"schedule", "--sigmas", "1,0.5", "--shift", "3"}, "found both");
  expect_refusal({"schedule", "--sigmas", "1,0.5", "--steps", "4"},
                 "--sigmas: found 2 noise levels above 0, expected as many as --steps, 4");
  expect_refusal({"schedule", "--device", "tpu"}, "--device");
  expect_refusal({"schedule", "--precision", "fp7"}, "--precision");
}

TEST_F(Stages, SkiparseReordersAndComesBack) {
  const at::Tensor x = torch::arange(2 * 3 * 5 * 7 * 2).view({2, 105, 2}).to(torch::kFloat32);
  const Arguments sizes = {"--grid", "3,5,7", "--ratio", "2"};
  const auto move = [&](const at::Tensor& tokens, const char* from, const char* to) {
    Arguments arguments = {
        "skiparse", "--from", from, "--to", to, "--input", input({{"x", tokens}})};
    arguments.insert(arguments.end(), sizes.begin(), sizes.end());
    return result(arguments);
  };
  const Tensors group = move(x, "full", "group");
  EXPECT_TRUE(torch::equal(group.at("x"), x.index_select(1, group.at("order"))));
  EXPECT_EQ(group.at("segments").sizes(), at::IntArrayRef{5});
  EXPECT_EQ(group.at("segments")[4].item<int64_t>(), 105);
  const Tensors token = move(group.at("x"), "group", "token");
  EXPECT_TRUE(torch::equal(token.at("x"), x.index_select(1, token.at("order"))));
  const Tensors full = move(token.at("x"), "token", "full");
  EXPECT_TRUE(torch::equal(full.at("x"), x));
  EXPECT_EQ(full.at("segments").sizes(), at::IntArrayRef{2});
}

TEST_F(Stages, SkiparseRefusals) {
  const std::string in = input({{"x", torch::zeros({1, 105, 2})}});
  const auto refused = [&](const std::string& message, const Arguments& flags) {
    Arguments arguments = {"skiparse", "--input", in};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    expect_refusal(arguments, message);
  };
  refused("T*H*W = 120", {"--grid", "3,5,8"});
  refused("--grid: found 0 numbers", {});
  refused("--grid", {"--grid", "3,5"});
  refused("--grid: found 0, expected 1", {"--grid", "0,5,7"});
  refused("--ratio: found 0", {"--grid", "3,5,7", "--ratio", "0"});
  refused("--to", {"--grid", "3,5,7", "--to", "rows"});
}

TEST_F(Stages, InputAndOutputAreChecked) {
  expect_refusal({"decode-latent", "--model", model()}, "--input: missing");
  expect_refusal({"decode-latent", "--model", model(), "--input", path("none")}, path("none"));
  write_file(folder_ / "in.safetensors", "no tensors here");
  expect_refusal({"decode-latent", "--model", model(), "--input", path("in.safetensors")},
                 path("in.safetensors"));
  EXPECT_TRUE(refuses(run_here({"stage", "schedule"}), "--output: missing"));
  EXPECT_TRUE(
      refuses(run_here({"stage", "schedule", "--output", path("no/x")}), "there is no folder"));
  EXPECT_TRUE(
      refuses(run_here({"stage", "schedule", "--output", folder_.path().string()}), "is a folder"));
  EXPECT_TRUE(
      refuses(run_here({"stage", "schedule", "--output", "/dev/null"}), "not a regular file"));
  EXPECT_TRUE(refuses(run_here({"stage", "schdule"}), "did you mean schedule?"));
  EXPECT_TRUE(refuses(run_here({"stage"}), "encode-text, denoise"));
}

}  // namespace
}  // namespace ospnext
