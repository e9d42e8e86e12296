// The brightness of pixels, for rewards that look at nothing else.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// video [3, F, H, W] in [0, 1] -> its luma [F, H, W]. Source: ITU-R BT.709-6, item 3.2.
inline at::Tensor luma(const at::Tensor& video) {
  return 0.2126 * video[0] + 0.7152 * video[1] + 0.0722 * video[2];
}

}  // namespace ospnext
