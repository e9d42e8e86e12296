// Adds blocks to a transformer without changing its output, as the start of further training.
#pragma once

#include <cstdint>
#include <vector>

#include "models/transformer.h"

namespace ospnext {

// A copy of `transformer` (same device, float32) with new blocks. `after` holds one number per new
// block: the index of the existing block that it follows; a number may occur several times. A new
// block is a copy of the block before it with the last linear layer of its three residual branches
// (self-attention, text attention, feed-forward) set to zero. So the velocities are the same bit
// for bit, and these output layers learn first.
// Throws InputError naming `insert_blocks` for a number that is no block, and when an existing
// block would get another attention pattern at its new index. Sparse patterns alternate, so insert
// new blocks in pairs.
// Source: Chen et al. 2016 (Net2DeeperNet), arXiv 1511.05641, for the idea.
Transformer deepen(const Transformer& transformer, std::vector<int64_t> after);

}  // namespace ospnext
