// How a forward pass of the transformer is computed. All of it is said here: the same execution on
// the same shapes gives the same numbers, with gradients or without.
#pragma once

#include "core/torch/spans.h"
#include "core/torch/torch.h"
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
};

struct Execution {
  Numerics numerics;
  // Whether blocks may write over their input, which saves one tensor of all tokens for each part
  // of a block. Only without gradients.
  bool overwrite = false;
  Spans* spans = nullptr;  // where blocks and their parts are recorded
};

}  // namespace ospnext
