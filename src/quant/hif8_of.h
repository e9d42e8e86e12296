// Selects which function of a tensor is rounded.
#pragma once

namespace ospnext::hif8 {

// The tensor itself, or its GELU (tanh approximation). The GELU is never stored unrounded.
enum class Of { kItself, kGelu };

}  // namespace ospnext::hif8
