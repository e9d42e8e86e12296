// HiFloat8 rounding inside the transformer: the linears of the blocks and the inputs of attention.
#pragma once

#include <map>
#include <string>

#include "models/transformer.h"

namespace ospnext {

struct Hif8Rounding {
  bool linears = false;    // inputs and weights of what hif8::is_rounded_weight() names
  bool attention = false;  // queries, keys and values, as attention takes them
  double amax_to = 15;     // what inputs are scaled to, each sample by its own amax
  // The linears' products on FP8 tensor cores, amax_to <= hif8::kE4m3Amax; otherwise simulated.
  bool tensor_cores = false;

  bool any() const { return linears || attention; }
};

// Makes a transformer round in its forward passes, for inference only. With `rounding.linears` the weights
// named in `weight_scales` hold what their codes are worth, not divided by the scale given there. Those that
// the policy names and the map does not are a programmer's mistake.
// Then, for tensor cores, those weights become float8_e4m3fn (quant/hif8_linear.h).
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding,
                   const std::map<std::string, float>& weight_scales);

// The same for a transformer whose weights are not rounded yet: rounds them, each by its own amax.
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding);

}  // namespace ospnext
