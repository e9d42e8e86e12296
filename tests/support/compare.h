// Distances between tensors.
#pragma once

#include <cstring>
#include <limits>

#include "core/torch/torch.h"

namespace ospnext {

// ‖actual - expected‖ / ‖expected‖ over all elements, in fp64; infinity if the shapes differ.
inline double relative_l2(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) {
    return std::numeric_limits<double>::infinity();
  }
  const at::Tensor wanted = expected.to(at::kCPU, at::kDouble);
  return ((actual.to(at::kCPU, at::kDouble) - wanted).norm() / wanted.norm()).item<double>();
}

// The largest difference divided by the largest expected value, in fp64; infinity if the shapes
// differ.
inline double relative_max(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) {
    return std::numeric_limits<double>::infinity();
  }
  const at::Tensor wanted = expected.to(at::kCPU, at::kDouble);
  const at::Tensor difference = actual.to(at::kCPU, at::kDouble) - wanted;
  return (difference.abs().max() / wanted.abs().max()).item<double>();
}

// Whether both have the same shape, dtype and bytes, NaNs included. Compares on the CPU.
inline bool same_bits(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.scalar_type() != expected.scalar_type() || actual.sizes() != expected.sizes()) {
    return false;
  }
  const at::Tensor left = actual.contiguous();
  const at::Tensor right = expected.contiguous();
  return left.nbytes() == 0 ||  // memcmp must not get the null address of an empty tensor
         std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0;
}

}  // namespace ospnext
