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
  Hif8Products products = Hif8Products::kSimulated;  // on tensor cores amax_to <= hif8::kE4m3Amax

  bool tensor_cores() const { return products != Hif8Products::kSimulated; }
  bool any() const { return linears || attention; }
};

// Makes a transformer round in its forward passes, for inference only. With `rounding.linears` the weights
// named in `weight_scales` hold what their codes are worth, not divided by the scale given there, or
// hif8::fp8_weight() of that, which for tensor cores they become in any case. Those that the policy names and the
// map does not are a programmer's mistake.
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding,
                   const std::map<std::string, float>& weight_scales);

// The same for a transformer whose weights are not rounded yet: rounds them, each by its own amax.
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding);

}  // namespace ospnext
