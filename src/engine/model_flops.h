// Model FLOPs: the floating-point operations that a transformer's blocks need at least.
#pragma once

#include "models/layout.h"
#include "models/transformer_config.h"

namespace ospnext {

// Of self-attention on one video: all pairs of tokens inside each segment of the layout.
double attention_flops(const TransformerConfig& config, const Layout& layout);
// Of the attention of `tokens` tokens to all rows of text.
double text_flops(const TransformerConfig& config, int64_t tokens);
// Of a block: self-attention in a pattern, attention to all rows of text, and the linear layers.
double block_flops(const TransformerConfig& config, const Grid& grid, Pattern pattern);
// Of a forward pass of all blocks on one video. A training step has three times as many.
double forward_flops(const TransformerConfig& config, const Grid& grid);

}  // namespace ospnext
