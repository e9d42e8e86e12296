// How a forward pass of the transformer is computed. All of it is said here: the same execution on
// the same shapes gives the same numbers, with gradients or without.
#pragma once

#include <functional>
#include <vector>

#include "core/torch/spans.h"
#include "core/torch/torch.h"
#include "kernels/kept_attention.h"
#include "kernels/residual.h"
#include "quant/hif8_linear.h"

namespace ospnext {

// What is rounded to HiFloat8 (docs/hif8.md).
struct Hif8Rounding {
  bool linears = false;    // inputs and weights of the linears that hif8::is_rounded_weight() names
  bool attention = false;  // queries, keys and values
  double amax_to = 15;     // each sample is scaled to this amax; see products
  // tensor cores: amax_to <= hif8::kE4m3Amax
  hif8::Products products = hif8::Products::kSimulated;

  bool tensor_cores() const { return products != hif8::Products::kSimulated; }
  bool any() const { return linears || attention; }
};

// The arithmetic of a forward pass.
struct Numerics {
  at::ScalarType dtype = at::kFloat;  // of linears, attention and the residual stream
  Epilogue epilogue = Epilogue::kFused;
  Hif8Rounding hif8 = {};
  // The latent's noise level sigma, from 0 to 1. Adapters with a higher lowest_noise_level do not
  // take part.
  double noise_level = 1;
};

class BlockRunner;

struct Execution {
  Numerics numerics;
  // Whether blocks may write over their input, which saves one tensor of all tokens for each part
  // of a block. Only without gradients.
  bool overwrite = false;
  Spans* spans = nullptr;  // where blocks and their parts are recorded
  // What runs the blocks; null: each runs once, with the gradients that its inputs ask for.
  BlockRunner* blocks = nullptr;
  // Where a block keeps its self-attention for a second run, and then finds it; null: nowhere.
  // Attention that is rounded to HiFloat8 is never kept.
  KeptAttention* attention = nullptr;
};

// A block as a function of all tensors that it reads, except its weights.
using BlockFunction =
    std::function<at::Tensor(const std::vector<at::Tensor>& inputs, const Execution& run)>;

// Runs blocks when their weights are there, and again when a gradient needs what they computed.
class BlockRunner {
 public:
  virtual ~BlockRunner() = default;
  // -> function(inputs, run) of block i. The function may be called until the gradient is computed;
  // what it refers to must last as long.
  virtual at::Tensor run(size_t i, const BlockFunction& function,
                         const std::vector<at::Tensor>& inputs, const Execution& run) = 0;
};

}  // namespace ospnext
