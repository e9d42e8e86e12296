// Reads scaled fp8 checkpoints: 8-bit weights, each with a scale in another tensor.
#pragma once

#include <map>
#include <string>

#include "io/readers/tensor_file.h"

namespace ospnext {

// The scale of a weight. weight = stored value · the scale of its block.
struct WeightScale {
  std::string name;       // of the scale's tensor
  TensorRecord values;    // [blocks of rows, blocks of columns], floating
  int64_t block_rows;     // rows of one block
  int64_t block_columns;  // all dimensions of the weight after the first are columns
};

// Weight name in the file -> scale; empty for plain weights, also plain fp8 weights.
// The scale of X.weight is X.weight_scale (ComfyUI today, compressed-tensors, lightx2v),
// X.scale_weight (older ComfyUI, musubi-tuner) or X.weight_scale_inv (DeepSeek, transformers). In
// all three the weight is multiplied by the scale. The shape of the scale determines the blocks:
//   one number            the whole weight
//   [out] or [out, 1]     rows
//   [r, c] or [r, c, 1]   blocks of 128 x 128 if their number is r x c, else blocks of equal size
// A file is marked as scaled by a tensor "scaled_fp8", by X.comfy_quant, or by
// "_quantization_metadata"; the last two give the format of layer X. Scales of activations
// (scale_input, input_scale, activation_scale) only serve fp8 arithmetic and are ignored here.
// Throws InputError for a format other than fp8, a scale of an unsuitable dtype or shape, a single
// scale that is not finite (larger scales are checked when they are used), a scale without its fp8
// weight, two scales of one weight, and an fp8 matrix without a scale in a file that is marked or
// has scales.
// Source: ComfyUI comfy/ops.py and comfy/utils.py:convert_old_quants;
// silveroxides/convert_to_quant; transformers integrations/finegrained_fp8.py;
// kohya-ss/musubi-tuner modules/fp8_optimization_utils.py.
std::map<std::string, WeightScale> fp8_scales(const Checkpoint& checkpoint);

// Whether a tensor of this name is a scale or a mark of a scaled fp8 file, and not a weight.
bool is_fp8_companion(const std::string& name);

}  // namespace ospnext
