// HiFloat8 rounding in the transformer: linears of the blocks and inputs of attention.
#pragma once

#include <map>
#include <string>

#include "models/transformer.h"

namespace ospnext {

struct Hif8Rounding {
  bool linears = false;    // inputs and weights of the linears that hif8::is_rounded_weight() names
  bool attention = false;  // queries, keys and values
  double amax_to = 15;     // each sample is scaled to this amax; see products
  Hif8Products products = Hif8Products::kSimulated;  // tensor cores: amax_to <= hif8::kE4m3Amax

  bool tensor_cores() const { return products != Hif8Products::kSimulated; }
  bool any() const { return linears || attention; }
};

// Makes the forward passes of a transformer round to HiFloat8; for inference only.
// With `rounding.linears`, the weights are already rounded: each holds its code values, not divided
// by its scale in `weight_scales` (by parameter name), or hif8::fp8_weight() of these values. For
// tensor cores, this converts all of them with hif8::fp8_weight(). Every weight that
// hif8::is_rounded_weight() names must be in the map (TORCH_CHECK).
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding,
                   const std::map<std::string, float>& weight_scales);

// The same for weights that are not rounded yet. Rounds each weight, scaled by its own amax.
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding);

}  // namespace ospnext
