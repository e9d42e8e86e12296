// A transformer that several processes load in shards, or one loads offloaded, equals the one that
// each would load whole.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/fields.h"
#include "core/torch/random.h"
#include "io/weights.h"
#include "packages/load_model.h"
#include "packages/quantize_model.h"
#include "packages/random_model.h"
#include "support/compare.h"
#include "support/run_ranks.h"
#include "support/temporary_folder.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

TransformerConfig config() {
  TransformerConfig config = tiny_transformer_config();
  config.num_heads = 2;
  config.num_layers = 5;
  return config;
}

class LoadSharded : public testing::Test {
 protected:
  LoadSharded() {
    fs::create_directories(source());
    Transformer transformer(config());
    weights_ = random_weights(*transformer, 1);
    write_file(source() / "config.json", fields_to_json(config()).dump());
    save_safetensors(file(), weights_);
  }

  fs::path source() const { return folder_ / "transformer"; }
  fs::path file() const { return source() / "diffusion_pytorch_model.safetensors"; }
  static PartFiles files(const fs::path& folder, const std::vector<LoraChoice>& loras = {}) {
    return find_model_files({.transformer = folder, .loras = loras})
        .require(ModelPart::kTransformer);
  }

  const TemporaryFolder folder_;
  std::map<std::string, at::Tensor> weights_;
};

// The keys and values of a text, which every block computes, then all weights of the last block.
std::vector<at::Tensor> contents(Transformer& transformer) {
  const torch::NoGradGuard no_grad;
  std::vector<at::Tensor> found;
  const at::Tensor rows = torch::randn({1, 3, 32}, seeded_generator(2, "sharded"), at::kFloat);
  for (const TextKeys& keys : transformer->embed_text({rows, {}}, transformer->inference())) {
    found.insert(found.end(), {keys.key, keys.value});
  }
  const size_t last = transformer->blocks->size() - 1;
  const auto lease = transformer->sharded_weights().lease(last);
  for (const at::Tensor& parameter : transformer->blocks[last]->parameters()) {
    found.push_back(parameter.to(at::kFloat, /*non_blocking=*/false, /*copy=*/true));
  }
  return found;
}

void expect_equal(Transformer sharded, Transformer whole, double tolerance, const char* name) {
  const auto got = contents(sharded), expected = contents(whole);
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (tolerance == 0) {
      EXPECT_TRUE(at::equal(got[i], expected[i])) << name << ", tensor " << i;
    } else {
      EXPECT_LE(relative_l2(got[i], expected[i]), tolerance) << name << ", tensor " << i;
    }
  }
}

const struct {
  const char* name;
  ComputeOptions compute;
} kPrecisions[] = {
    {"float32", {}},
    {"bf16", {.dtype = at::kBFloat16}},
    {"hif8-simulated", {.hif8 = Hif8Use::kSimulated}},
    {"hif8", {.hif8 = Hif8Use::kTensorCores}},
};

TEST_F(LoadSharded, EqualsTheWholeInEveryPrecision) {
  for (const int size : {2, 3}) {
    run_ranks(size, [&](const ProcessGroup& all) {
      const ProcessGroup weights = all.twin("weights");
      for (const auto& [name, compute] : kPrecisions) {
        expect_equal(load_transformer(files(source()), compute, {weights}),
                     load_transformer(files(source()), compute), 0, name);
      }
    });
  }
}

TEST_F(LoadSharded, OffloadedEqualsTheWholeInEveryPrecision) {
  for (const auto& [name, compute] : kPrecisions) {
    ComputeOptions offloaded = compute;
    offloaded.offload = true;
    expect_equal(load_transformer(files(source()), offloaded),
                 load_transformer(files(source()), compute), 0, name);
  }
  run_ranks(2, [&](const ProcessGroup& all) {
    expect_equal(load_transformer(files(source()), {.offload = true}, {all.twin("weights")}),
                 load_transformer(files(source()), {}), 0, "two ranks");
  });
}

TEST_F(LoadSharded, TakesStoredCodes) {
  Progress progress(nullptr, false);
  const CancellationToken never;
  quantize_transformer(files(source()), 1 << 30, folder_ / "codes", progress, never);
  run_ranks(2, [&](const ProcessGroup& all) {
    const ComputeOptions compute{.hif8 = Hif8Use::kTensorCores};
    expect_equal(load_transformer(files(folder_ / "codes"), compute, {all.twin("weights")}),
                 load_transformer(files(source()), compute), 0, "codes");
  });
}

TEST_F(LoadSharded, AddsLoras) {
  const at::Tensor down = torch::randn({2, 128}, seeded_generator(3, "lora"), at::kFloat);
  save_safetensors(
      folder_ / "lora.safetensors",
      {{"diffusion_model.blocks.4.ffn.0.lora_down.weight", down},
       {"diffusion_model.blocks.4.ffn.0.lora_up.weight", down.t().narrow(0, 0, 64).clone()}});
  run_ranks(2, [&](const ProcessGroup& all) {
    const ProcessGroup weights = all.twin("weights");
    const PartFiles changed = files(source(), {{folder_ / "lora.safetensors", 0.5}});
    for (const Hif8Use hif8 : {Hif8Use::kAsConfigured, Hif8Use::kSimulated}) {
      const ComputeOptions compute{.hif8 = hif8};
      Transformer sharded = load_transformer(changed, compute, {weights});
      Transformer offloaded = load_transformer(changed, {.hif8 = hif8, .offload = true});
      Transformer whole = load_transformer(changed, compute);
      expect_equal(sharded, whole, 1e-6, "lora");
      expect_equal(offloaded, whole, 0, "offloaded lora");
    }
  });
}

TEST_F(LoadSharded, RandomModelsAreDrawnAlike) {
  const RandomModelSource source(config(), tiny_text_encoder_config(), tiny_vae_config(), 1);
  run_ranks(2, [&](const ProcessGroup& all) {
    for (const auto& [name, compute] : kPrecisions) {
      expect_equal(source.transformer(compute, {all.twin(name)}), source.transformer(compute), 0,
                   name);
    }
  });
}

// Only the rank that owns the number reads it.
TEST_F(LoadSharded, NanIsRefusedByTheRankThatKeepsIt) {
  weights_.at("blocks.2.ffn.2.bias")[127] = std::numeric_limits<float>::quiet_NaN();
  save_safetensors(file(), weights_);
  run_ranks(2, [&](const ProcessGroup& all) {
    bool refused = false;
    try {
      load_transformer(files(source()), {}, {all.twin("weights")});
    } catch (const InputError& error) {
      refused =
          std::string(error.what()).find("\"blocks.2.ffn.2.bias\" holds NaN") != std::string::npos;
    }
    EXPECT_EQ(all.all_sum(at::tensor({refused ? 1 : 0}), "refused").item<int>(), 1);
  });
}

}  // namespace
}  // namespace ospnext
