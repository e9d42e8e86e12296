// ospnext stage gradients against diffusers, PEFT and the padded sparse model, all in float64
// (tools/make_gradient_fixtures.py).
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "cli/run_ospnext.h"
#include "io/readers/tensor_file.h"
#include "io/weights.h"
#include "support/compare.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, at::Tensor>;

constexpr double kTolerance = 1e-4;   // relative L2 of each gradient
constexpr double kSmallNorm = 1e-6;   // shorter gradients count as this share of all together
constexpr double kNoticeable = 1e-1;  // of some gradient, after a planted mistake

// The tensors whose names begin with `prefix`, by what follows it.
Tensors behind(const std::string& prefix, const Tensors& tensors) {
  Tensors found;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) {
      found[name.substr(prefix.size())] = tensor;
    }
  }
  return found;
}

Tensors gradients(const Tensors& tensors) {
  return behind("gradient.", tensors);
}

// The norm of all tensors together.
double joint_norm(const Tensors& tensors) {
  double squares = 0;
  for (const auto& [name, tensor] : tensors) {
    squares += tensor.to(at::kDouble).square().sum().item<double>();
  }
  return std::sqrt(squares);
}

double distance(const at::Tensor& left, const at::Tensor& right) {
  return (left.to(at::kDouble) - right.to(at::kDouble)).norm().item<double>();
}

// The largest relative L2 of a gradient; infinity if names or shapes differ or a value is NaN.
double worst(const Tensors& actual, const Tensors& expected) {
  const double floor = kSmallNorm * joint_norm(expected);
  double largest = actual.size() == expected.size() ? 0 : std::numeric_limits<double>::infinity();
  for (const auto& [name, wanted] : expected) {
    const auto found = actual.find(name);
    if (found == actual.end() || found->second.sizes() != wanted.sizes()) {
      return std::numeric_limits<double>::infinity();
    }
    const double error = distance(found->second, wanted) /
                         std::max(wanted.to(at::kDouble).norm().item<double>(), floor);
    largest =
        std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest, error);
  }
  return largest;
}

// Relative L2 of all gradients as one vector. Both have the same names and shapes.
double joint_error(const Tensors& actual, const Tensors& expected) {
  Tensors differences;
  for (const auto& [name, wanted] : expected) {
    differences[name] = actual.at(name).to(at::kDouble) - wanted.to(at::kDouble);
  }
  return joint_norm(differences) / joint_norm(expected);
}

class StageGradients : public testing::Test {
 protected:
  static std::string fixture_file(const std::string& name) {
    return fixture_path("gradients/" + name + ".safetensors");
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  // Reads a fixture of a model and writes the model as a folder, its config changed by `settings`.
  Tensors use_model(const std::string& name,
                    const nlohmann::json& settings = nlohmann::json::object()) const {
    const Tensors fixture = read_tensors(fixture_file(name));
    auto config =
        nlohmann::json::parse(open_checkpoint(fixture_file(name)).metadata().at("config"));
    config.update(settings);
    fs::create_directories(folder_ / "model");
    write_file(folder_ / "model/config.json", config.dump());
    save_safetensors(folder_ / "model/diffusion_pytorch_model.safetensors",
                     behind("weights.", fixture));
    return fixture;
  }

  // Writes the adapter of a fixture as PEFT saves it.
  std::string write_adapter(const Tensors& fixture, double alpha) const {
    Tensors adapter;
    for (const auto& [name, tensor] : fixture) {
      if (name.starts_with("base_model.")) {
        adapter[name] = tensor;
      }
    }
    const nlohmann::json config = {{"peft_type", "LORA"}, {"r", 4}, {"lora_alpha", alpha}};
    fs::create_directories(folder_ / "adapter");
    write_file(folder_ / "adapter/adapter_config.json", config.dump());
    save_safetensors(folder_ / "adapter/adapter_model.safetensors", adapter);
    return path("adapter");
  }

  static Tensors inputs(const Tensors& fixture) {
    Tensors in;
    for (const char* name : {"latent", "noise", "sigma", "text"}) {
      in[name] = fixture.at(name).clone();
    }
    return in;
  }

  Arguments command(const Tensors& in, const Arguments& flags = {}) const {
    save_safetensors(path("in.safetensors"), in);
    Arguments arguments = {"stage",       "gradients", "--transformer",
                           path("model"), "--input",   path("in.safetensors")};
    arguments.insert(arguments.end(), {"--output", path("out.safetensors")});
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    return arguments;
  }

  // What the command writes.
  Tensors result(const Tensors& in, const Arguments& flags = {}) const {
    const Outcome outcome = run_here(command(in, flags));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    return outcome.status == 0 ? read_tensors(path("out.safetensors")) : Tensors();
  }

  const TemporaryFolder folder_;
};

// Expects the loss and the gradients of a fixture.
void expect_equal(const Tensors& actual, const Tensors& fixture, const std::string& name) {
  const Tensors found = gradients(actual);
  const double error = worst(found, gradients(fixture));
  std::printf("  %-28s relative L2 of a gradient at most %.2e\n", name.c_str(), error);
  EXPECT_LE(error, kTolerance) << name;
  EXPECT_EQ(actual.size(), found.size() + 1) << name;  // and the loss
  ASSERT_TRUE(actual.contains("loss")) << name;
  EXPECT_LE(relative_l2(actual.at("loss"), fixture.at("loss")), 1e-5) << name;
  for (const auto& [parameter, gradient] : found) {
    EXPECT_EQ(gradient.scalar_type(), at::kFloat) << name << " " << parameter;
  }
}

TEST_F(StageGradients, OfAllWeightsAreThoseOfTheReferences) {
  for (const char* name : {"dense", "sparse"}) {
    const Tensors fixture = use_model(name);
    expect_equal(result(inputs(fixture)), fixture, name);
  }
}

TEST_F(StageGradients, OfALoraAreThoseOfPeft) {
  const Tensors base = use_model("dense");
  const Tensors fixture = read_tensors(fixture_file("lora"));
  expect_equal(result(inputs(base), {"--lora", write_adapter(fixture, 8)}), fixture, "lora");
  expect_equal(result(inputs(base), {"--lora", write_adapter(fixture, 16) + ":0.5"}), fixture,
               "lora of half strength");  // alpha is twice that of the fixture
}

TEST_F(StageGradients, OfPlantedMistakesAreNoticed) {
  const Tensors dense = use_model("dense");
  Tensors changed = inputs(dense);
  changed["sigma"] = changed["sigma"] + 1.0 / 64;
  EXPECT_GT(worst(gradients(result(changed)), gradients(dense)), kNoticeable) << "sigma";
  changed = inputs(dense);
  std::swap(changed["latent"], changed["noise"]);
  EXPECT_GT(worst(gradients(result(changed)), gradients(dense)), kNoticeable) << "noise";
  const Tensors lora = read_tensors(fixture_file("lora"));
  const Arguments flags = {"--lora", write_adapter(lora, 9)};
  EXPECT_GT(worst(gradients(result(inputs(dense), flags)), gradients(lora)), kNoticeable)
      << "alpha";
  for (const nlohmann::json& settings :
       {nlohmann::json{{"sparse_ratio", 3}}, nlohmann::json{{"eps", 1e-3}},
        nlohmann::json{{"skiparse_model_type", "uniform"}, {"num_full_blocks", 0}}}) {
    const Tensors sparse = use_model("sparse", settings);
    EXPECT_GT(worst(gradients(result(inputs(sparse))), gradients(sparse)), kNoticeable) << settings;
  }
}

TEST_F(StageGradients, InBf16AreCloseButNotEqual) {
  const Tensors dense = use_model("dense");
  const Tensors lora = read_tensors(fixture_file("lora"));
  const Arguments bf16 = {"--precision", "bf16"};
  Arguments adapter = {"--lora", write_adapter(lora, 8)};
  adapter.insert(adapter.end(), bf16.begin(), bf16.end());
  for (const auto& [flags, fixture] : {std::pair(bf16, dense), std::pair(adapter, lora)}) {
    const Tensors found = gradients(result(inputs(dense), flags));
    const Tensors expected = gradients(fixture);
    ASSERT_LT(worst(found, expected), std::numeric_limits<double>::infinity());
    const double error = joint_error(found, expected);
    EXPECT_GT(error, 1e-4);
    EXPECT_LT(error, 0.05);  // plain bf16 torch: 0.012
    EXPECT_EQ(found.begin()->second.scalar_type(), at::kFloat);
  }
}

TEST_F(StageGradients, OfALoraPassHif8Weights) {
  const Tensors dense = use_model("dense");
  const Tensors lora = read_tensors(fixture_file("lora"));
  const Tensors found = gradients(
      result(inputs(dense), {"--lora", write_adapter(lora, 8), "--precision", "hif8-simulated"}));
  ASSERT_LT(worst(found, gradients(lora)), std::numeric_limits<double>::infinity());
  const double error = joint_error(found, gradients(lora));
  EXPECT_GT(error, 1e-3);
  EXPECT_LT(error, 0.5);  // three bits of mantissa; the direction stays
}

TEST_F(StageGradients, WarnsOfTensorsThatItDoesNotUse) {
  Tensors in = inputs(use_model("dense"));
  in["timestep"] = torch::ones({2});
  const Outcome outcome = run_here(command(in));
  EXPECT_EQ(outcome.status, 0);
  EXPECT_NE(outcome.err.find("the tensor \"timestep\" is not used here"), std::string::npos)
      << outcome.err;
}

TEST_F(StageGradients, RefusesBadTensors) {
  const Tensors dense = use_model("dense");
  const auto refused = [&](const std::string& message, const auto& change) {
    Tensors in = inputs(dense);
    change(in);
    EXPECT_TRUE(refuses(run_here(command(in)), path("in.safetensors") + ": " + message));
    EXPECT_EQ(folder_.names(), (std::vector<std::string>{"in.safetensors", "model"})) << message;
  };
  refused("there is no tensor \"noise\"", [](Tensors& t) { t.erase("noise"); });
  refused("latent: found shape [2, 5, 3, 10, 6], expected [B,4,F,H,W]", [](Tensors& t) {
    t["latent"] = torch::randn({2, 5, 3, 10, 6});
  });
  refused("noise: found shape [2, 4, 3, 10, 4], expected [B,4,F,H,W] with B = 2", [](Tensors& t) {
    t["noise"] = torch::randn({2, 4, 3, 10, 4});
  });
  refused("noise: found shape [1, 4, 3, 10, 6]", [](Tensors& t) {
    t["noise"] = torch::randn({1, 4, 3, 10, 6});
  });
  refused("latent: found sides 9 x 6, expected even ones", [](Tensors& t) {
    t["latent"] = torch::randn({2, 4, 3, 9, 6});
    t["noise"] = torch::randn({2, 4, 3, 9, 6});
  });
  refused("sigma: found values outside of 0 to 1", [](Tensors& t) { t["sigma"][1] = 1.5; });
  refused("sigma: found values outside of 0 to 1", [](Tensors& t) { t["sigma"][0] = -0.1; });
  refused("sigma: holds NaN", [](Tensors& t) { t["sigma"][0] = NAN; });
  refused("sigma: found shape [2, 1]", [](Tensors& t) { t["sigma"] = torch::rand({2, 1}); });
  refused("text: found shape [2, 24, 13]", [](Tensors& t) {
    t["text"] = torch::ones({2, 24, 13});
  });
  refused("text: found", [](Tensors& t) { t["text"] = torch::ones({2, 24, 12}, at::kLong); });
}

TEST_F(StageGradients, RefusesBadFlags) {
  const Tensors in = inputs(use_model("dense"));
  const std::string adapter = write_adapter(read_tensors(fixture_file("lora")), 8);
  const auto refused = [&](const std::string& message, const Arguments& flags) {
    EXPECT_TRUE(refuses(run_here(command(in, flags)), message));
    EXPECT_FALSE(fs::exists(folder_ / "out.safetensors")) << message;
  };
  for (const std::string precision : {"hif8", "hif8-p8", "hif8-simulated"}) {
    refused("--precision: found " + precision + ", expected float32 or bf16",
            {"--precision", precision});
  }
  refused("with --lora only the adapter is trained", {"--precision", "hif8-simulated"});
  refused("--precision: found \"fp7\"", {"--precision", "fp7"});
  refused("--lora: found it 2 times", {"--lora", adapter, "--lora", adapter});
  refused("found the strength \"strong\"", {"--lora", adapter + ":strong"});
  refused(path("none.safetensors"), {"--lora", path("none.safetensors")});
  save_safetensors(path("other.safetensors"),
                   {{"base_model.model.blocks.7.ffn.0.lora_A.weight", torch::ones({1, 24})},
                    {"base_model.model.blocks.7.ffn.0.lora_B.weight", torch::ones({40, 1})}});
  refused("fit no layer of the transformer", {"--lora", path("other.safetensors")});
  save_safetensors(path("adapter/adapter_model.safetensors"),
                   {{"base_model.model.blocks.0.ffn.0.lora_A.weight", torch::ones({1, 24})},
                    {"base_model.model.blocks.0.ffn.0.lora_B.weight", torch::ones({40, 1})}});
  write_file(folder_ / "adapter/adapter_config.json",
             R"({"lora_alpha": 1, "lowest_noise_level": 0.9})");
  refused(adapter + ": acts at noise levels from 0.900000 on alone, expected a LoRA for all levels",
          {"--lora", adapter});
}

TEST_F(StageGradients, OnAnyMeshAreThoseOfTheReferences) {
  const auto on_mesh = [&](int processes, const Tensors& in, const Arguments& flags) {
    Arguments arguments = command(in, flags);
    arguments.insert(arguments.begin(), {"launch", "-n", std::to_string(processes), "--"});
    const Outcome outcome =
        run_binary(arguments, {}, [] { ::setenv("OMP_NUM_THREADS", "1", /*overwrite=*/1); });
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.status == 0 ? read_tensors(path("out.safetensors")) : Tensors();
  };
  const Tensors sparse = use_model("sparse");
  expect_equal(on_mesh(2, inputs(sparse), {"--data-parallel", "2", "--recompute", "attention"}),
               sparse, "data 2");
  expect_equal(on_mesh(3, inputs(sparse), {"--ring", "3", "--data-parallel", "1"}), sparse,
               "ring 3");
  expect_equal(
      on_mesh(4, inputs(sparse),
              {"--data-parallel", "2", "--ssp", "2", "--shard-group", "4", "--recompute", "1"}),
      sparse, "data 2 x SSP 2, 4 shards");
  const Tensors dense = use_model("dense"), lora = read_tensors(fixture_file("lora"));
  expect_equal(on_mesh(2, inputs(dense),
                       {"--lora", write_adapter(lora, 8), "--shard-group", "2", "--recompute",
                        "all", "--data-parallel", "1"}),
               lora, "lora, 2 shards");
}

TEST_F(StageGradients, WithOffloadedWeightsAreThoseOfTheReferences) {
  const Arguments offload = {"--recompute", "all", "--offload-weights"};
  const auto computed = [&](const Tensors& in, Arguments flags) {
    flags.insert(flags.end(), offload.begin(), offload.end());
    const Outcome outcome = run_here(command(in, flags));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.status == 0 ? read_tensors(path("out.safetensors")) : Tensors();
  };
  const Tensors sparse = use_model("sparse");
  expect_equal(computed(inputs(sparse), {}), sparse, "offloaded");
  const Tensors dense = use_model("dense"), lora = read_tensors(fixture_file("lora"));
  expect_equal(computed(inputs(dense), {"--lora", write_adapter(lora, 8)}), lora,
               "lora beside offloaded weights");
}

TEST_F(StageGradients, RefuseMeshesThatDoNotFit) {
  const Tensors in = inputs(use_model("sparse"));
  EXPECT_TRUE(refuses(run_here(command(in, {"--ssp", "3"})), "mesh: found"));
  EXPECT_TRUE(refuses(run_here(command(in, {"--shard-group", "2"})), "--shard-group: found 2"));
  EXPECT_TRUE(refuses(run_here(command(in, {"--recompute", "some"})), "--recompute: found"));
  EXPECT_TRUE(refuses(run_here(command(in, {"--offload-activations"})), "--offload-activations"));
  EXPECT_TRUE(refuses(run_here(command(in, {"--offload-weights"})),
                      "--offload-weights: found with --recompute none"));
  EXPECT_FALSE(fs::exists(folder_ / "out.safetensors"));
}

}  // namespace
}  // namespace ospnext
