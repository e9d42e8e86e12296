// A transformer with its tokens on several ranks (processes over Gloo) gives the same result as one
// rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "core/torch/random.h"
#include "models/transformer.h"
#include "models/transformer_hif8.h"
#include "support/case_name.h"
#include "support/compare.h"
#include "support/run_ranks.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

struct Inputs {
  at::Tensor latent, text, timestep;
};

// Inputs for two samples on a grid of tokens.
Inputs inputs_on(const Grid& grid) {
  at::Generator generator = seeded_generator(5, "ranks");
  const auto draw = [&](at::IntArrayRef shape) {
    return torch::randn(shape, generator, at::kFloat);
  };
  return {draw({2, 16, grid.T, 2 * grid.H, 2 * grid.W}), draw({2, 3, 32}),
          at::tensor({750.F, 20.F})};
}

// A grid with equal segments, one with unequal segments, and one with empty segments.
const std::vector<Grid> kGrids = {{3, 8, 4}, {2, 5, 7}, {1, 2, 2}};

void expect_equal_to_one_rank(const std::string& type, int size,
                              const std::vector<SequenceMesh>& meshes) {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  Transformer transformer = random_transformer(ranks_transformer_config(type), 3);
  std::vector<at::Tensor> expected;
  for (const Grid& grid : kGrids) {
    const Inputs in = inputs_on(grid);
    expected.push_back(transformer->forward(in.latent, in.text, in.timestep));
  }
  run_ranks(size, [&](const ProcessGroup& all) {
    double worst = 0;
    for (const SequenceMesh& mesh : meshes) {
      const SequenceRanks ranks = sequence_ranks(all, mesh, transformer->config().num_heads);
      for (size_t i = 0; i < kGrids.size(); ++i) {
        const Inputs in = inputs_on(kGrids[i]);
        const at::Tensor velocity = transformer->forward(in.latent, in.text, in.timestep, ranks);
        const double error = relative_l2(velocity, expected[i]);
        EXPECT_LT(error, 1e-5) << case_name(mesh, kGrids[i]);
        worst = std::max(worst, error);
      }
    }
    if (all.rank() == 0) {
      std::printf("  %s on %d ranks: relative L2 at most %.1e\n", type.c_str(), size, worst);
    }
  });
}

TEST(TransformerRanks, SparseOnTwoEqualsOne) {
  expect_equal_to_one_rank("dual_end", 2, {{2, 1, 1}, {1, 2, 1}, {1, 1, 2}});
}

TEST(TransformerRanks, SparseOnThreeEqualsOne) {
  expect_equal_to_one_rank("dual_end", 3, {{1, 1, 3}});
}

TEST(TransformerRanks, SparseOnFourEqualsOne) {
  expect_equal_to_one_rank("dual_end", 4,
                           {{4, 1, 1}, {2, 2, 1}, {2, 1, 2}, {1, 4, 1}, {1, 2, 2}, {1, 1, 4}});
}

TEST(TransformerRanks, SparseOnEightEqualsOne) {
  expect_equal_to_one_rank("dual_end", 8, {{4, 2, 1}, {4, 1, 2}, {2, 4, 1}, {2, 2, 2}});
}

// One linear. Each rank has some rows of the input; one of these rows contains the largest value.
TEST(TransformerRanks, Hif8CodesDoNotDependOnTheRanks) {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  at::Generator generator = seeded_generator(5, "ranks");
  Linear linear(16, 8, at::kFloat);
  linear->weight.copy_(torch::randn({8, 16}, generator, at::kFloat).round());
  linear->bias.zero_();
  linear->hif8_scale = 1;
  const Numerics numerics{.hif8 = {.linears = true}};
  at::Tensor x = torch::randn({2, 12, 16}, generator, at::kFloat);
  x[0][0][0] = 11;
  x[1][11][3] = -7;
  const at::Tensor expected = (*linear)(x, numerics);
  run_ranks(3, [&](const ProcessGroup& all) {
    const auto own = [&](const at::Tensor& y) { return y.narrow(1, 4 * all.rank(), 4); };
    const at::Tensor part = own(x).contiguous();
    EXPECT_GT(relative_l2((*linear)(part, numerics), own(expected)), 1e-3);
    const Measured whole = joined(all, part, *linear);
    EXPECT_LT(relative_l2((*linear)(whole, numerics), own(expected)), 1e-6);
  });
}

TEST(TransformerRanks, Hif8OnFourIsNearOne) {
  at::set_num_threads(1);
  const torch::NoGradGuard no_grad;
  Transformer transformer = random_transformer(ranks_transformer_config("dual_end"), 3);
  round_to_hif8(transformer, {.linears = true, .attention = true});
  const Inputs in = inputs_on(kGrids[1]);
  const at::Tensor expected = transformer->forward(in.latent, in.text, in.timestep);
  run_ranks(4, [&](const ProcessGroup& all) {
    // Sums of attention differ in their last bits. A value half way between two codes can then be
    // rounded to the other one.
    for (const SequenceMesh& mesh : {SequenceMesh{4, 1, 1}, {2, 2, 1}, {1, 4, 1}, {2, 1, 2}}) {
      const SequenceRanks ranks = sequence_ranks(all, mesh, transformer->config().num_heads);
      EXPECT_LT(relative_l2(transformer->forward(in.latent, in.text, in.timestep, ranks), expected),
                1e-2)
          << case_name(mesh, kGrids[1]);
    }
  });
}

TEST(TransformerRanks, UniformEqualsOne) {
  expect_equal_to_one_rank("uniform", 4, {{4, 1, 1}, {2, 1, 2}});
}

TEST(TransformerRanks, DenseEqualsOne) {
  expect_equal_to_one_rank("full", 4, {{1, 4, 1}, {1, 2, 2}, {1, 1, 4}});
}

}  // namespace
}  // namespace ospnext
