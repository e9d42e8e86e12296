// Checkpoints of HiFloat8 weights: finds the tensors with codes and their scales.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Returns the scales by the weight's name in the file; empty for other files. X.weight holds uint8
// codes, and X.weight_hif8_scale holds its scale, one float32. The weight is the values of the
// codes (quant/hif8.h) divided by the scale. Throws InputError for a scale that is not one finite,
// positive number, for a scale without codes, and for a uint8 matrix without a scale if other
// matrices have one.
std::map<std::string, double> hif8_scales(const Checkpoint& checkpoint);

// Whether the tensor is a scale in such a file and not a weight.
bool is_hif8_companion(const std::string& name);

// The name of the scale for the weight with this name.
std::string hif8_scale_name(const std::string& weight);

}  // namespace ospnext
