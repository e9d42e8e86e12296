// How a forward pass is computed is said and not guessed: gradients change no number, parts are the
// whole, and adapters are the sum that they stand for.
#include <gtest/gtest.h>

#include <cmath>

#include "core/torch/random.h"
#include "io/readers/lora_keys.h"
#include "models/rope.h"
#include "models/transformer_hif8.h"
#include "quant/hif8_linear.h"
#include "support/compare.h"
#include "support/on_device.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

at::Tensor draw(at::IntArrayRef shape, const char* purpose) {
  return at::randn(shape, seeded_generator(11, purpose), at::kFloat);
}

TransformerConfig config_of(const std::string& type) {
  TransformerConfig config = tiny_transformer_config();
  config.num_heads = config.dim / 64;
  config.skiparse_model_type = type;
  config.num_layers = type == "full" ? 2 : 8;
  config.num_full_blocks = type == "full" ? 0 : 4;
  return config;
}

struct Inputs {
  at::Tensor latent, text, timestep;
  explicit Inputs(at::Device device)
      : latent(draw({2, 16, 3, 10, 14}, "latent").to(device)),
        text(draw({2, 9, 32}, "text").to(device)),
        timestep(at::tensor({900.F, 200.F}).to(device)) {}
};

class TransformerExecution : public OnDevice {};
INSTANTIATE_ON_DEVICES(TransformerExecution);

// What one case of the next test runs with.
struct Case {
  const char* type;
  at::ScalarType dtype;
  Epilogue epilogue;
  bool hif8, adapters;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* type : {"full", "dual_end"}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const Epilogue epilogue : {Epilogue::kFused, Epilogue::kSeparate}) {
        for (const bool hif8 : {false, true}) {
          for (const bool adapters : {false, true}) {
            all.push_back({type, dtype, epilogue, hif8, adapters});
          }
        }
      }
    }
  }
  return all;
}

std::string name_of(const Case& it) {
  return std::string(it.type) + ", " + at::toString(it.dtype) +
         (it.epilogue == Epilogue::kFused ? ", fused" : "") + (it.hif8 ? ", hif8" : "") +
         (it.adapters ? ", adapters" : "");
}

// Expects the same velocity with gradients and without, overwriting inputs or not.
void expect_same_without_gradients(Transformer& model, const Inputs& in) {
  for (at::Tensor& parameter : model->parameters()) {
    parameter.set_requires_grad(true);
  }
  const at::Tensor velocity = model->forward(in.latent, in.text, in.timestep);
  EXPECT_TRUE(velocity.requires_grad());
  const TokenTables tables(model->config(), token_grid(in.latent), in.latent.device());
  const torch::NoGradGuard no_grad;
  for (const bool overwrite : {false, true}) {
    const Execution run{model->numerics(), overwrite};
    const at::Tensor again =
        model->forward(in.latent, model->embed_text(in.text, run),
                       model->embed_time(in.timestep, run.numerics.epilogue), tables, run);
    EXPECT_TRUE(at::equal(again, velocity)) << "overwrite " << overwrite;
  }
}

TEST_P(TransformerExecution, GradientsChangeNoNumber) {
  const Inputs in(device());
  for (const Case& it : cases()) {
    SCOPED_TRACE(name_of(it));
    Transformer model = random_transformer(config_of(it.type), 3);
    model->to(device());
    model->set_numerics({.dtype = it.dtype, .epilogue = it.epilogue});
    if (it.hif8) {
      round_to_hif8(model, {.linears = true, .attention = true});
    }
    if (it.adapters) {
      add_adapters(model, /*trainable=*/true);
    }
    expect_same_without_gradients(model, in);
  }
}

TEST(TransformerOnFp8TensorCores, GradientsChangeNoNumber) {
  if (!torch::cuda::is_available() || !hif8::has_fp8_tensor_cores(at::kCUDA)) {
    GTEST_SKIP() << "no GPU with FP8 tensor cores";
  }
  const Inputs in(at::kCUDA);
  for (const char* type : {"full", "dual_end"}) {
    for (const auto products : {hif8::Products::kTensorCores, hif8::Products::kTensorCoresP8}) {
      for (const bool adapters : {false, true}) {
        SCOPED_TRACE(std::string(type) + (adapters ? ", adapters" : ""));
        TransformerConfig config = config_of(type);
        config.num_heads = config.dim / 128;  // heads of the Hopper kernel
        Transformer model = random_transformer(config, 3);
        model->to(at::kCUDA);
        model->set_numerics({.dtype = at::kBFloat16});
        round_to_hif8(model, {.linears = true, .attention = true, .products = products});
        if (adapters) {
          add_adapters(model, /*trainable=*/true);
        }
        expect_same_without_gradients(model, in);
      }
    }
  }
}

TEST_P(TransformerExecution, AdaptersAreTheirSumWithTheWeights) {
  const torch::NoGradGuard no_grad;
  const Inputs in(device());
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    Transformer live = random_transformer(config_of("dual_end"), 3);
    Transformer merged = random_transformer(config_of("dual_end"), 3);
    for (Transformer* model : {&live, &merged}) {
      (*model)->to(device());
      (*model)->set_numerics({.dtype = dtype});
    }
    const at::Tensor without = live->forward(in.latent, in.text, in.timestep);
    add_adapters(live, /*trainable=*/false);
    add_adapters(merged, /*trainable=*/false);
    for (const auto& item : merged->named_modules("", /*include_self=*/false)) {
      if (auto* linear = item.value()->as<LinearImpl>()) {
        const LowRank& change = linear->adapters.front();
        linear->weight.add_(change.up.mm(change.down), change.factor);
        linear->adapters.clear();
      }
    }
    const at::Tensor expected = merged->forward(in.latent, in.text, in.timestep);
    const double error = relative_l2(live->forward(in.latent, in.text, in.timestep), expected);
    EXPECT_LE(error, dtype == at::kFloat ? 1e-5 : 2e-2);
    EXPECT_GT(relative_l2(without, expected), 0.05);
    std::printf("  live and merged in %s: relative L2 %.1e\n", at::toString(dtype), error);
  }
}

// Two adapters of half the strength are one of the whole.
TEST_P(TransformerExecution, SeveralAdaptersAreSummed) {
  const torch::NoGradGuard no_grad;
  const Inputs in(device());
  Transformer model = random_transformer(config_of("full"), 3);
  model->to(device());
  add_adapters(model, /*trainable=*/false);
  const at::Tensor expected = model->forward(in.latent, in.text, in.timestep);
  for (const auto& item : model->named_modules("", /*include_self=*/false)) {
    if (auto* linear = item.value()->as<LinearImpl>()) {
      LowRank half = linear->adapters.front();
      half.factor /= 2;
      linear->adapters = {half, half};
    }
  }
  EXPECT_LE(relative_l2(model->forward(in.latent, in.text, in.timestep), expected), 1e-5);
}

// The linears whose adapters may depend on the noise level.
std::vector<LinearImpl*> noisy_linears(Transformer& model) {
  std::vector<LinearImpl*> linears;
  for (const auto& item : model->named_modules("", /*include_self=*/false)) {
    auto* linear = item.value()->as<LinearImpl>();
    if (linear != nullptr && depends_on_noise(item.key() + ".weight")) {
      linears.push_back(linear);
    }
  }
  return linears;
}

// Expects that an adapter with a lowest noise level is none below it and a plain one from it on.
void expect_switched_adapters(Transformer& model, const Inputs& in) {
  const torch::NoGradGuard no_grad;
  constexpr double kLevel = 0.5;
  const TokenTables tables(model->config(), token_grid(in.latent), in.latent.device());
  const auto velocity = [&](double level, const std::vector<std::vector<LowRank>>& adapters) {
    const std::vector<LinearImpl*> linears = noisy_linears(model);
    for (size_t i = 0; i < linears.size(); ++i) {
      linears[i]->adapters.clear();
      for (const auto& one : adapters) {
        linears[i]->adapters.push_back(one[i]);
      }
    }
    Execution run = model->inference();
    run.numerics.noise_level = level;
    return model->forward(in.latent, model->embed_text(in.text, run),
                          model->embed_time(in.timestep, run.numerics.epilogue), tables, run);
  };
  std::vector<LowRank> plain, switched, other;  // by linear
  add_adapters(model, /*trainable=*/false);
  for (const LinearImpl* linear : noisy_linears(model)) {
    plain.push_back(linear->adapters.front());
    switched.push_back(plain.back());
    switched.back().lowest_noise_level = kLevel;
    other.push_back(plain.back());
    other.back().down = other.back().down.flip(1).narrow(0, 0, 3);  // [3, in]
    other.back().up = other.back().up.flip(0).narrow(1, 0, 3);      // [out, 3]
  }
  for (const auto& item : model->named_modules("", /*include_self=*/false)) {
    if (auto* linear = item.value()->as<LinearImpl>()) {
      linear->adapters.clear();
    }
  }
  const double below = std::nextafter(static_cast<float>(kLevel), 0.0F);
  const at::Tensor without = velocity(1, {}), with = velocity(1, {plain});
  const at::Tensor of_other = velocity(1, {other}), of_both = velocity(1, {other, plain});
  EXPECT_GT(relative_l2(with, without), 0.01);
  EXPECT_GT(relative_l2(of_both, of_other), 0.01);
  EXPECT_TRUE(at::equal(velocity(below, {switched}), without));
  EXPECT_TRUE(at::equal(velocity(kLevel, {switched}), with));
  EXPECT_TRUE(at::equal(velocity(1, {switched}), with));
  EXPECT_TRUE(at::equal(velocity(below, {switched, other}), of_other));
  EXPECT_TRUE(at::equal(velocity(below, {other, switched}), of_other));
  EXPECT_TRUE(at::equal(velocity(kLevel, {other, switched}), of_both));
}

TEST_P(TransformerExecution, AdaptersActFromTheirLowestNoiseLevelOn) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const Epilogue epilogue : {Epilogue::kFused, Epilogue::kSeparate}) {
      for (const bool hif8 : {false, true}) {
        SCOPED_TRACE(name_of({"full", dtype, epilogue, hif8, true}));
        Transformer model = random_transformer(config_of("full"), 3);
        model->to(device());
        model->set_numerics({.dtype = dtype, .epilogue = epilogue});
        if (hif8) {
          round_to_hif8(model, {.linears = true, .attention = true});
        }
        expect_switched_adapters(model, Inputs(device()));
      }
    }
  }
}

TEST(TransformerOnFp8TensorCores, AdaptersActFromTheirLowestNoiseLevelOn) {
  if (!torch::cuda::is_available() || !hif8::has_fp8_tensor_cores(at::kCUDA)) {
    GTEST_SKIP() << "no GPU with FP8 tensor cores";
  }
  TransformerConfig config = config_of("full");
  config.num_heads = config.dim / 128;  // heads of the Hopper kernel
  Transformer model = random_transformer(config, 3);
  model->to(at::kCUDA);
  model->set_numerics({.dtype = at::kBFloat16});
  round_to_hif8(model,
                {.linears = true, .attention = true, .products = hif8::Products::kTensorCores});
  expect_switched_adapters(model, Inputs(at::kCUDA));
}

// forward() in one call takes the highest level of the batch.
TEST(TransformerForward, TakesTheNoiseLevelFromTheTimesteps) {
  const torch::NoGradGuard no_grad;
  const Inputs in(at::kCPU);
  Transformer model = random_transformer(config_of("full"), 3);
  const auto velocity = [&](double lowest, bool adapted) {
    for (LinearImpl* linear : noisy_linears(model)) {
      linear->adapters.clear();
      if (adapted) {
        const auto& weight = linear->weight;
        linear->adapters = {
            {draw({2, weight.size(1)}, "down") * 0.1, draw({weight.size(0), 2}, "up"), 1, lowest}};
      }
    }
    return model->forward(in.latent, in.text, in.timestep);  // of 900 and 200
  };
  EXPECT_TRUE(at::equal(velocity(0.91, true), velocity(0, false)));
  EXPECT_TRUE(at::equal(velocity(0.9, true), velocity(0, true)));
  EXPECT_GT(relative_l2(velocity(0, true), velocity(0, false)), 1e-3);
}

// A sparse model on the CPU and what a pass of it takes.
class ForwardInParts : public testing::Test {
 protected:
  TokenTables tables_from(int64_t first_frame) const {
    return {model->config(), token_grid(in.latent), at::kCPU, {}, first_frame};
  }

  const torch::NoGradGuard no_grad;
  const Inputs in{at::kCPU};
  Transformer model = random_transformer(config_of("dual_end"), 3);
  const Execution run = model->inference();
  const TokenTables tables = tables_from(0);
  const TextVectors text = model->embed_text(in.text, run);
};

TEST_F(ForwardInParts, RangesOfBlocksAreTheWhole) {
  const TimeVectors time = model->embed_time(in.timestep);
  const at::Tensor whole = model->forward(in.latent, text, time, tables, run);
  at::Tensor x = model->embed(in.latent, tables, run);
  const auto& plan = model->plan();
  for (size_t i = 0; i < plan.size(); i += 2) {
    x = model->run_blocks(x, {i, i + 2}, text, time, tables, run);
    const size_t next = std::min(i + 2, plan.size() - 1);
    x = tables.exchange().switch_layout(x, tables.place(plan[i + 1].layout).layout,
                                        tables.place(plan[next].layout).layout);
  }
  EXPECT_TRUE(at::equal(model->velocity(x, time, tables, run), whole));
}

TEST_F(ForwardInParts, ANoiseLevelForEachFrameIsThatOfItsTokens) {
  const auto velocity = [&](const at::Tensor& timestep) {
    return model->forward(in.latent, text, model->embed_time(timestep), tables, run);
  };
  const at::Tensor whole = velocity(in.timestep);
  const at::Tensor by_frame = in.timestep.unsqueeze(1).repeat({1, 3});  // [B, F]
  EXPECT_LE(relative_l2(velocity(by_frame), whole), 1e-6);
  at::Tensor other = by_frame.clone();
  other.select(1, 2).fill_(500);
  EXPECT_GT(relative_l2(velocity(other), whole), 1e-3);
  // Head and modulation of a frame see its own level alone.
  const at::Tensor x = model->embed(in.latent, tables, run);
  const TimeVectors time = model->embed_time(by_frame), changed = model->embed_time(other);
  const at::Tensor one = model->velocity(x, time, tables, run);
  const at::Tensor two = model->velocity(x, changed, tables, run);
  EXPECT_TRUE(at::equal(one.narrow(2, 0, 2), two.narrow(2, 0, 2)));
  EXPECT_GT(relative_l2(one.narrow(2, 2, 1), two.narrow(2, 2, 1)), 1e-3);
}

TEST_F(ForwardInParts, FramesMayBeginAnywhere) {
  const Layout longer({7, 4, 6}, Pattern::kFull, 1), part({3, 4, 6}, Pattern::kFull, 1);
  EXPECT_TRUE(at::equal(at::view_as_real(rope_table(64, part, 4)),
                        at::view_as_real(rope_table(64, longer).narrow(0, 4 * 24, 3 * 24))));
}

// Full attention depends on differences of positions alone, so a later first frame changes nothing
// but rounding.
TEST_F(ForwardInParts, AVideoDoesNotDependOnItsFirstFrame) {
  const auto velocity = [&](int64_t first_frame) {
    return model->forward(in.latent, text, model->embed_time(in.timestep), tables_from(first_frame),
                          run);
  };
  EXPECT_LE(relative_l2(velocity(5), velocity(0)), 1e-5);
}

}  // namespace
}  // namespace ospnext
