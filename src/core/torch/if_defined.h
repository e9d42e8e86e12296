// Undefined tensors as absent ones.
#pragma once

#include <optional>

#include "core/torch/torch.h"

namespace ospnext {

// nullopt for an undefined tensor, because autograd::Function takes no undefined tensors.
inline std::optional<at::Tensor> if_defined(const at::Tensor& x) {
  return x.defined() ? std::make_optional(x) : std::nullopt;
}

}  // namespace ospnext
