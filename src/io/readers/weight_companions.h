// Companions: tensors that belong to a weight and define how to decode its stored numbers.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// Whether a tensor of this name is a scale or mark of fp8 or HiF8 weights that our readers know.
bool is_weight_companion(const std::string& name);

// Throws InputError, naming the format and a tensor, when tensor names show an unsupported format:
// bitsandbytes, GPTQ, AWQ, nvfp4, packed compressed-tensors, optimum-quanto or torchao.
// Source: the serialisation in transformers' quantizers and ComfyUI comfy/ops.py.
void refuse_other_formats(const Checkpoint& checkpoint);

// Weight name -> name of a companion that no reader knows, such as "X.scale" for "X.weight". Lists
// only weights that are stored as fp8, as integers or in an unsupported dtype: without the
// companion their values cannot be decoded.
std::map<std::string, std::string> unknown_companions(const Checkpoint& checkpoint);

}  // namespace ospnext
