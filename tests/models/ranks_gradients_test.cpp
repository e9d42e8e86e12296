// A transformer with its tokens on several ranks (processes over Gloo) has the gradients of one
// rank.
#include <gtest/gtest.h>
#include <torch/autograd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "core/torch/random.h"
#include "models/transformer.h"
#include "support/case_name.h"
#include "support/compare.h"
#include "support/run_ranks.h"
#include "support/tiny_model.h"

namespace ospnext {
namespace {

constexpr double kTolerance = 1e-4;  // relative L2 of each gradient
constexpr double kSmallNorm = 1e-6;  // shorter gradients count as this share of the longest

// A grid with equal segments, one with unequal segments, and one with empty segments.
const std::vector<Grid> kGrids = {{3, 8, 4}, {2, 5, 7}, {3, 1, 4}};

// A transformer whose weights, or whose adapters, need gradients.
struct Trainee {
  Transformer transformer;
  std::vector<at::Tensor> trained;

  Trainee(const std::string& type, bool adapters)
      : transformer(random_transformer(ranks_transformer_config(type), 3)) {
    if (!adapters) {
      for (at::Tensor& parameter : transformer->parameters()) {
        trained.push_back(parameter.set_requires_grad(true));
      }
      return;
    }
    add_adapters(transformer, /*trainable=*/true);
    for (const auto& module : transformer->modules(/*include_self=*/false)) {
      if (auto* linear = module->as<LinearImpl>()) {
        trained.push_back(linear->adapters[0].down);
        trained.push_back(linear->adapters[0].up);
      }
    }
  }

  // The gradients of a loss of the velocity on `grid`.
  std::vector<at::Tensor> gradients(const Grid& grid, const SequenceRanks& ranks) {
    const at::AutoGradMode with_gradients(true);
    at::Generator generator = seeded_generator(5, "ranks");
    const auto draw = [&](at::IntArrayRef shape) {
      return torch::randn(shape, generator, at::kFloat);
    };
    const at::Tensor latent = draw({2, 16, grid.T, 2 * grid.H, 2 * grid.W});
    const at::Tensor text = draw({2, 3, 32}), target = draw(latent.sizes());
    const at::Tensor velocity =
        transformer->forward(latent, text, at::tensor({750.F, 20.F}), ranks);
    std::vector<at::Tensor> found =
        torch::autograd::grad({(velocity - target).square().mean()}, trained, {}, {}, false,
                              /*allow_unused=*/true);
    for (size_t i = 0; i < found.size(); ++i) {
      found[i] = found[i].defined() ? found[i] : at::zeros_like(trained[i]);
    }
    return found;
  }
};

// The largest relative L2 of a gradient.
double worst(const std::vector<at::Tensor>& actual, const std::vector<at::Tensor>& expected) {
  double longest = 0, largest = 0;
  for (const at::Tensor& one : expected) {
    longest = std::max(longest, one.norm().item<double>());
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    const double norm = std::max(expected[i].norm().item<double>(), kSmallNorm * longest);
    largest = std::max(largest, (actual[i] - expected[i]).norm().item<double>() / norm);
  }
  return largest;
}

// The ranks' losses are the same number, and the gradient of a collective is that of the sum of the
// ranks' losses. So the mean of the ranks' gradients is that of one rank.
void expect_gradients_of_one_rank(const std::string& type, int size,
                                  const std::vector<SequenceMesh>& meshes, bool adapters = false) {
  run_ranks(size, [&](const ProcessGroup& all) {
    at::set_num_threads(1);
    Trainee trainee(type, adapters);
    double most = 0;
    for (const Grid& grid : kGrids) {
      const auto expected = trainee.gradients(grid, {});
      for (const SequenceMesh& mesh : meshes) {
        auto actual = trainee.gradients(
            grid, sequence_ranks(all, mesh, trainee.transformer->config().num_heads));
        for (at::Tensor& one : actual) {
          one = all.all_sum(one, "gradients") / size;
        }
        const double error = worst(actual, expected);
        EXPECT_LT(error, kTolerance) << case_name(mesh, grid);
        most = std::max(most, error);
      }
    }
    if (all.rank() == 0) {
      std::printf("  %s on %d ranks: relative L2 at most %.1e\n", type.c_str(), size, most);
    }
  });
}

TEST(GradientsOnRanks, SparseOnTwo) {
  expect_gradients_of_one_rank("dual_end", 2, {{2, 1, 1}, {1, 2, 1}, {1, 1, 2}});
}

TEST(GradientsOnRanks, SparseOnThree) {
  expect_gradients_of_one_rank("dual_end", 3, {{1, 1, 3}});
}

TEST(GradientsOnRanks, SparseOnFour) {
  expect_gradients_of_one_rank("dual_end", 4,
                               {{4, 1, 1}, {2, 2, 1}, {2, 1, 2}, {1, 4, 1}, {1, 2, 2}, {1, 1, 4}});
}

TEST(GradientsOnRanks, SparseOnEight) {
  expect_gradients_of_one_rank("dual_end", 8, {{4, 2, 1}, {2, 2, 2}});
}

TEST(GradientsOnRanks, UniformOnFour) {
  expect_gradients_of_one_rank("uniform", 4, {{4, 1, 1}, {2, 1, 2}});
}

TEST(GradientsOnRanks, DenseOnFour) {
  expect_gradients_of_one_rank("full", 4, {{1, 4, 1}, {1, 2, 2}, {1, 1, 4}});
}

TEST(GradientsOnRanks, AdaptersOnFour) {
  expect_gradients_of_one_rank("dual_end", 4, {{4, 1, 1}, {2, 1, 2}, {1, 2, 2}}, true);
}

}  // namespace
}  // namespace ospnext
