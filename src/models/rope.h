// Three-axis rotary position embedding (RoPE): the rotation of each channel pair of each token.
// Letters: L video tokens of a grid T x H x W, D head width.
#pragma once

#include <array>
#include <cstdint>

#include "core/torch/torch.h"
#include "models/layout.h"

namespace ospnext {

// The numbers of head channels that rotate with t, row and column: D - 2·d, d, d, where
// d = 2·(D div 6).
std::array<int64_t, 3> rope_axis_dims(int64_t head_dim);

// The rotations of all tokens, [L, D/2] complex64, in the order and on the device of the layout.
// The pairs of t come first, then those of the row, then those of the column. Pair i of an axis
// with d channels rotates by the angle position·10000^(-2i/d). Angles, cosines and sines are
// computed in fp64 and rounded once. head_dim must be even. The frames are first_frame,
// first_frame + 1, ...
// Source: Wan2.1 wan/modules/model.py:rope_params, rope_apply.
at::Tensor rope_table(int64_t head_dim, const Layout& layout, int64_t first_frame = 0);

}  // namespace ospnext
