// Scaled fp8 checkpoints: weights stored in 8 bits with a scale beside them.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Scales by the weight's name in the file: a weight is its stored value times its scale. Empty for
// plain weights, also plain fp8 ones. Two layouts are read:
//   older  a tensor "scaled_fp8" marks the file; X.scale_weight belongs to X.weight
//   newer  X.comfy_quant, or "_quantization_metadata" in the metadata, gives the format of layer X;
//          X.weight_scale belongs to X.weight
// Scales of activations (scale_input, input_scale) serve fp8 arithmetic only and are passed over.
// Throws InputError for another format than fp8, a scale that is not one finite number, one without its
// fp8 weight, and an fp8 matrix without scale in a marked file.
// Source: ComfyUI comfy/ops.py and comfy/utils.py:convert_old_quants.
std::map<std::string, double> fp8_scales(const Checkpoint& checkpoint);

// Whether the tensor is a scale or a mark of such a file, not a weight.
bool is_fp8_companion(const std::string& name);

}  // namespace ospnext
