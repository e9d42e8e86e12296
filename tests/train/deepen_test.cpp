// A deepened transformer computes the same as the original one, and its new blocks can learn.
#include "train/deepen.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/torch/random.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

Transformer small_model() {
  TransformerConfig config = tiny_transformer_config();
  config.num_layers = 8;
  config.skiparse_model_type = "dual_end";
  config.num_full_blocks = 4;
  return random_transformer(config, 3);
}

at::Tensor velocity(Transformer& model) {
  at::Generator generator = seeded_generator(4, "input");
  const at::Tensor latent = at::randn({2, 16, 2, 6, 10}, generator);
  const at::Tensor text = at::randn({2, 5, 32}, generator);
  return model->forward(latent, TextRows(text), at::tensor({100.0F, 700.0F}));
}

TEST(Deepen, ComputesTheSameVelocities) {
  Transformer model = small_model();
  Transformer deeper = deepen(model, {2, 4, 2, 4});
  EXPECT_EQ(deeper->config().num_layers, 12);
  EXPECT_TRUE(at::equal(velocity(model), velocity(deeper)));
}

TEST(Deepen, TrainsTheNewBlocks) {
  Transformer deeper = deepen(small_model(), {2, 2});
  velocity(deeper).square().sum().backward();
  const auto& added = deeper->blocks->at<TransformerBlockImpl>(3);
  EXPECT_GT(added.ffn->second->weight.grad().abs().max().item<double>(), 0);
  EXPECT_GT(added.self_attn->o->weight.grad().abs().max().item<double>(), 0);
}

TEST(Deepen, RefusesWhatWouldChangeTheModel) {
  Transformer model = small_model();
  EXPECT_THROW(deepen(model, {8}), InputError);
  EXPECT_THROW(deepen(model, {-1}), InputError);
  EXPECT_THROW(deepen(model, {2}), InputError);     // block 3 (group) would become token
  EXPECT_THROW(deepen(model, {7, 7}), InputError);  // block 6 (full) would become sparse
}

}  // namespace
}  // namespace ospnext
