// Three-axis rotary position embedding: how far each token's channel pairs are turned.
#pragma once

#include <array>
#include <cstdint>

#include "core/torch/torch.h"
#include "models/layout.h"

namespace ospnext {

// Channels of a head that turn with t, row and column: D - 2·d, d, d with d = 2·(D div 6).
std::array<int64_t, 3> rope_axis_dims(int64_t head_dim);

// Rotations [L, head_dim/2] complex64, rows in the layout's order, on its device. Pairs of t come
// first, then rows, then columns; pair i of an axis of d channels turns by position·10000^(-2i/d).
// Angles, cosines and sines are made in fp64 and rounded once. head_dim is even.
// Source: Wan2.1 wan/modules/model.py:rope_params, rope_apply.
at::Tensor rope_table(int64_t head_dim, const Layout& layout);

}  // namespace ospnext
