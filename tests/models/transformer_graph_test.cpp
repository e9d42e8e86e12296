// The second forward pass on a grid does not synchronise with the host, so a CUDA graph can capture
// and replay it.
#include <gtest/gtest.h>

#include "models/transformer_fixture.h"
#include "support/compare.h"

#ifdef OSPNEXT_CUDA
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGuard.h>
#endif

namespace ospnext {
namespace {

TEST(TransformerGraph, ReplaysAForwardAndBackward) {
#ifdef OSPNEXT_CUDA
  if (!torch::cuda::is_available()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const TransformerFixture fixture("sparse.safetensors");
  const std::string name = "dual_end_2_3x5x7";
  Transformer model = fixture.model({{"sparse_ratio", 2}}, at::Device(at::kCUDA));
  model->set_numerics({.dtype = at::kBFloat16});
  const at::Tensor latent = fixture.tensor(name + ".latent").cuda();
  const at::Tensor text = fixture.tensor(name + ".text").cuda();
  const at::Tensor timestep = fixture.tensor(name + ".timestep").cuda();
  const TokenTables tables(model->config(), token_grid(latent), latent.device());
  const Execution execution{model->numerics()};
  at::Tensor velocity;
  const auto run = [&] {
    model->zero_grad();
    velocity = model->forward(latent, model->embed_text(text, execution),
                              model->embed_time(timestep), tables, execution);
    velocity.square().mean().backward();
  };
  const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  const c10::cuda::CUDAStreamGuard guard(stream);
  run();
  const at::Tensor expected = velocity.detach().clone();
  stream.synchronize();
  at::cuda::CUDAGraph graph;
  graph.capture_begin();
  run();
  graph.capture_end();
  latent.mul_(2);
  graph.replay();
  stream.synchronize();
  EXPECT_GT(relative_l2(velocity.detach(), expected), 1e-3);
  latent.div_(2);
  graph.replay();
  stream.synchronize();
  EXPECT_TRUE(at::equal(velocity.detach(), expected));
  EXPECT_TRUE(model->head->modulation.grad().isfinite().all().item<bool>());
#else
  GTEST_SKIP() << "built without CUDA";
#endif
}

}  // namespace
}  // namespace ospnext
