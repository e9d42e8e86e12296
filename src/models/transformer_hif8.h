// HiFloat8 rounding in the transformer: linears of the blocks and inputs of attention.
#pragma once

#include <map>
#include <string>

#include "models/transformer.h"

namespace ospnext {

// Prepares a transformer for passes that round to HiFloat8, and puts `rounding` into its numerics.
// With `rounding.linears`, the weights are already rounded: each holds its code values, not divided
// by its scale in `weight_scales` (by parameter name), or hif8::fp8_weight() of these values. For
// tensor cores, this converts all of them with hif8::fp8_weight(). Every weight that
// hif8::is_rounded_weight() names must be in the map (TORCH_CHECK).
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding,
                   const std::map<std::string, float>& weight_scales);

// The same for weights that are not rounded yet. Rounds each weight, scaled by its own amax.
void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding);

}  // namespace ospnext
