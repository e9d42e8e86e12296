// A transformer whose blocks are offloaded to host memory computes the same as one with all its
// weights on the device, bit for bit.
#include <gtest/gtest.h>

#include "core/torch/random.h"
#include "models/transformer_hif8.h"
#include "support/on_device.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

class OffloadedTransformer : public OnDevice {};
INSTANTIATE_ON_DEVICES(OffloadedTransformer);

struct Case {
  at::ScalarType dtype;
  bool hif8, adapters;
};

// Two passes, with more blocks than buffers.
std::vector<at::Tensor> passes(Transformer& model, at::Device device) {
  std::vector<at::Tensor> velocities;
  for (const float time : {900.F, 20.F}) {
    at::Generator generator = seeded_generator(11, "offload", static_cast<int64_t>(time));
    const auto draw = [&](at::IntArrayRef shape) {
      return at::randn(shape, generator, at::kFloat).to(device);
    };
    const at::Tensor latent = draw({1, 16, 2, 6, 10}), text = draw({1, 3, 32});
    velocities.push_back(model->forward(latent, text, at::tensor({time}).to(device)));
  }
  return velocities;
}

TEST_P(OffloadedTransformer, EqualsTheResident) {
  const torch::NoGradGuard no_grad;
  for (const Case& it : {Case{at::kFloat, /*hif8=*/true, /*adapters=*/true},
                         Case{at::kBFloat16, /*hif8=*/false, /*adapters=*/true}}) {
    SCOPED_TRACE(std::string(at::toString(it.dtype)) + (it.hif8 ? ", hif8" : "") +
                 (it.adapters ? ", adapters" : ""));
    const TransformerConfig config = ranks_transformer_config("dual_end");
    Transformer model = random_transformer(config, 3);
    model->to(device());
    model->to_inference_precision(it.dtype);
    model->set_numerics({.dtype = it.dtype});
    if (it.hif8) {
      round_to_hif8(model, {.linears = true, .attention = true});
    }
    if (it.adapters) {
      add_adapters(model, /*trainable=*/false);
    }
    const std::vector<at::Tensor> expected = passes(model, device());
    const auto shards = model->shard_blocks({}, {}, {.offload = true});
    const std::vector<at::Tensor> offloaded = passes(model, device());
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_TRUE(at::equal(offloaded[i], expected[i])) << "pass " << i;
    }
    for (const auto& [name, shard] : shards) {
      EXPECT_TRUE(shard.kept.is_cpu()) << name;
      EXPECT_EQ(shard.kept.is_pinned(), device().is_cuda()) << name;
    }
    int64_t bytes = 0;
    for (const at::Tensor& parameter : model->blocks->parameters()) {
      bytes += static_cast<int64_t>(parameter.storage().nbytes());
    }
    EXPECT_LT(bytes, 8192);  // between passes, parameters take no memory
  }
}

}  // namespace
}  // namespace ospnext
