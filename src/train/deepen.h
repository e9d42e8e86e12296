// Makes a transformer deeper without changing what it computes, to train it on from there.
#pragma once

#include <cstdint>
#include <vector>

#include "models/transformer.h"

namespace ospnext {

// A copy of `transformer` (same device, float32) with one more block behind each block named in `after`, a
// number for every new block: a copy of the named block whose three residuals start at zero. The velocities
// are the same, bit for bit; the new blocks learn through their output layers first.
// Throws InputError naming --insert-blocks for a number that is no block, and where a block of the old plan
// would come to lie where another attention pattern runs (sparse patterns alternate: insert pairs).
// Source: the idea is that of Chen et al. 2016 (Net2DeeperNet), arXiv 1511.05641.
Transformer deepen(const Transformer& transformer, std::vector<int64_t> after);

}  // namespace ospnext
