// A frame cut into strips of whole rows, one on each rank, and what layers see beyond the edges of a strip.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"
#include "parallel/process_group.h"

namespace ospnext::vae {

// Rank r has the r-th strip from the top, of a latent's rows and of what becomes of them at every resolution.
// Tensors are [B, C, T, H, W], H being the rows of the strip. Called by all ranks in the same order; one rank alone
// has the whole frame, and to it everything here is the identity. Not differentiable.
class Strips {
 public:
  Strips() = default;  // the whole frame on this rank
  // As even as can be. Needs a row of the latent for each rank.
  Strips(ProcessGroup ranks, int64_t latent_rows);

  bool whole() const { return ranks_.alone(); }
  // Whether this rank is the one that collect() collects on.
  bool leads() const { return ranks_.rank() == 0; }

  // This rank's rows of a latent of all rows.
  at::Tensor own(const at::Tensor& latent) const;
  // x between one row of the strip above and one of the strip below, zeros at the edges of the frame:
  // what a convolution of three rows sees. [B, C, T, H, W] -> [B, C, T, H + 2, W], channels-last
  at::Tensor with_neighbours(const at::Tensor& x) const;
  // The zero rows that such a convolution has to add itself on either side, `reach` in a whole frame.
  int64_t padding(int64_t reach) const { return whole() ? reach : 0; }
  // The rows of all strips; `purpose` counts the exchange.
  at::Tensor gather(const at::Tensor& x, const char* purpose) const;
  // The rows of all strips on rank 0, no rows on the others.
  at::Tensor collect(const at::Tensor& x, const char* purpose) const;

 private:
  // Of each rank, at x's resolution.
  std::vector<int64_t> rows_like(const at::Tensor& x) const;

  ProcessGroup ranks_;
  std::vector<int64_t> latent_rows_;  // of each rank
};

}  // namespace ospnext::vae
