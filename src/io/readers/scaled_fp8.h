// Scaled fp8 checkpoints: weights stored in 8 bits with a scale beside them.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// The scale of a weight: its stored values times the number of the block they lie in.
struct WeightScale {
  std::string name;     // of the tensor that holds it
  TensorRecord values;  // [blocks of rows, blocks of columns], floating
  int64_t block_rows;   // of the weight; its dimensions behind the first are its columns
  int64_t block_columns;
};

// Scales by the weight's name in the file; empty for plain weights, also plain fp8 ones. The scale of
// X.weight is X.weight_scale (ComfyUI today, compressed-tensors, lightx2v), X.scale_weight (ComfyUI
// before, musubi-tuner) or X.weight_scale_inv (DeepSeek, transformers); whatever it is called, it
// multiplies. Its shape says what its numbers belong to: one number to all, [out] or [out, 1] to the rows,
// [r, c] or [r, c, 1] to blocks, of 128 x 128 where that many fit, else of equal ones.
// Files are marked by a tensor "scaled_fp8", by X.comfy_quant or by "_quantization_metadata", which give
// the format of layer X. Scales of activations (scale_input, input_scale, activation_scale) serve fp8
// arithmetic only and are passed over.
// Throws InputError for another format than fp8, a scale that is no such tensor or not finite (of a single
// number; others are looked at where they are used), one without its fp8 weight, two of one weight, and an
// fp8 matrix without scale in a file that is marked or has scales.
// Source: ComfyUI comfy/ops.py and comfy/utils.py:convert_old_quants; silveroxides/convert_to_quant;
// transformers integrations/finegrained_fp8.py; kohya-ss/musubi-tuner modules/fp8_optimization_utils.py.
std::map<std::string, WeightScale> fp8_scales(const Checkpoint& checkpoint);

// Whether the tensor is a scale or a mark of such a file, not a weight.
bool is_fp8_companion(const std::string& name);

}  // namespace ospnext
