// Ulysses: ranks that hold some of the tokens with all heads exchange them for all tokens with some of the
// heads, and back. Source: Jacobs et al., DeepSpeed Ulysses, 2023.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "parallel/process_group.h"

namespace ospnext {

// Queries, keys and values [B, l, H, D] of this rank's l = tokens[group.rank()] tokens, in one exchange ->
// [B, sum of tokens, H / group.size(), D]. H is a multiple of the group's size.
std::array<at::Tensor, 3> tokens_to_heads(const std::array<at::Tensor, 3>& x,
                                          const std::vector<int64_t>& tokens,
                                          const ProcessGroup& group);

// The way back. [B, sum of tokens, H / group.size(), D] -> [B, l, H, D]
at::Tensor heads_to_tokens(const at::Tensor& x, const std::vector<int64_t>& tokens,
                           const ProcessGroup& group);

}  // namespace ospnext
