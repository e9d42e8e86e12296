// What of a tensor is rounded.
#pragma once

namespace ospnext::hif8 {

// The tensor itself, or its GELU (the approximation with tanh), which is then never stored.
enum class Of { kItself, kGelu };

}  // namespace ospnext::hif8
