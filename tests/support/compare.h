// Distances between tensors.
#pragma once

#include <cstring>
#include <limits>

#include "core/torch/torch.h"

namespace ospnext {

// ‖actual - expected‖ / ‖expected‖ over all elements, in fp64; infinite when shapes differ.
inline double relative_l2(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) {
    return std::numeric_limits<double>::infinity();
  }
  const at::Tensor wanted = expected.to(at::kCPU, at::kDouble);
  return ((actual.to(at::kCPU, at::kDouble) - wanted).norm() / wanted.norm()).item<double>();
}

// Largest difference over the largest value, in fp64; infinite when shapes differ.
inline double relative_max(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.sizes() != expected.sizes()) {
    return std::numeric_limits<double>::infinity();
  }
  const at::Tensor wanted = expected.to(at::kCPU, at::kDouble);
  const at::Tensor difference = actual.to(at::kCPU, at::kDouble) - wanted;
  return (difference.abs().max() / wanted.abs().max()).item<double>();
}

// Whether both have the same shape, dtype and bytes, NaNs included. On the CPU.
inline bool same_bits(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.scalar_type() != expected.scalar_type() || actual.sizes() != expected.sizes()) {
    return false;
  }
  const at::Tensor left = actual.contiguous();
  const at::Tensor right = expected.contiguous();
  return left.nbytes() == 0 ||  // an empty tensor has no address, which memcmp must not be given
         std::memcmp(left.data_ptr(), right.data_ptr(), left.nbytes()) == 0;
}

}  // namespace ospnext
