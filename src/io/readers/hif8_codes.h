// Checkpoints of HiFloat8 weights: which tensors are codes, and their scales.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Scales by the weight's name in the file; empty for other files. X.weight is uint8 codes, and
// X.weight_hif8_scale, one float32, belongs to it: the weight is the codes' values (quant/hif8.h) divided
// by the scale. Throws InputError for a scale that is not one finite, positive number, one without its
// codes, and a uint8 matrix without scale beside others that have one.
std::map<std::string, double> hif8_scales(const Checkpoint& checkpoint);

// Whether the tensor is a scale of such a file, not a weight.
bool is_hif8_companion(const std::string& name);

// The name of the scale that belongs to the weight of this name.
std::string hif8_scale_name(const std::string& weight);

}  // namespace ospnext
