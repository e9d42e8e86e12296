// Tensors that belong to a weight and say how its stored numbers are meant.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Whether the tensor is a scale or a mark that the readers of fp8 and HiF8 weights know, not a weight.
bool is_weight_companion(const std::string& name);

// Throws InputError, naming the format and a tensor, when names say that weights are stored in a format
// that is not read: bitsandbytes, GPTQ, AWQ, nvfp4, packed compressed-tensors, optimum-quanto, torchao.
// Source: the serialisation in transformers' quantizers and ComfyUI comfy/ops.py.
void refuse_other_formats(const Checkpoint& checkpoint);

// Of weights in fp8 or whole numbers, by name: a tensor beside or below the weight ("X.scale" of "X.weight")
// that no reader knows, so that nobody knows what the stored numbers are worth.
std::map<std::string, std::string> unknown_companions(const Checkpoint& checkpoint);

}  // namespace ospnext
