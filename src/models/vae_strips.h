// Strips: each rank has a part of the rows of a frame. This file also exchanges the rows that
// layers need from other strips.
// Letters: B batch, C channels, T frames, H x W rows and columns.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"
#include "parallel/process_group.h"

namespace ospnext::vae {

// Rank r has the r-th strip of a frame, from the top. A strip is a range of rows of the latent, and
// at every resolution the rows that are computed from them. Tensors are [B, C, T, H, W], where H is
// the number of rows of the strip. All ranks call the same functions in the same order. A single
// process has the whole frame, and every function returns its input. Not differentiable.
class Strips {
 public:
  Strips() = default;  // a single process: the whole frame
  // Strips as equal as possible. Needs at least one row of the latent for each rank.
  Strips(ProcessGroup ranks, int64_t latent_rows);

  bool whole() const { return ranks_.alone(); }
  // Whether collect() gathers on this rank.
  bool leads() const { return ranks_.rank() == 0; }

  // This rank's rows of a whole latent. [B, C, T, all rows, W] -> [B, C, T, H, W], a view.
  at::Tensor own(const at::Tensor& latent) const;
  // x with one row of the strip above and one of the strip below, zeros at the edges of the frame:
  // the input of a convolution of three rows.
  // x [B, C, T, H, W] -> [B, C, T, H + 2, W], channels-last
  at::Tensor with_neighbours(const at::Tensor& x) const;
  // The zero padding that this convolution still has to add above and below: `reach` for a whole
  // frame, else 0.
  int64_t padding(int64_t reach) const { return whole() ? reach : 0; }
  // All-gathers the rows: [B, C, T, H, W] -> [B, C, T, all rows, W]. `purpose`: ProcessGroup.
  at::Tensor gather(const at::Tensor& x, const char* purpose) const;
  // Gathers the rows on rank 0: [B, C, T, all rows, W] there, [B, C, T, 0, W] on other ranks.
  at::Tensor collect(const at::Tensor& x, const char* purpose) const;

 private:
  // The rows of each rank at the resolution of x, [ranks].
  std::vector<int64_t> rows_like(const at::Tensor& x) const;

  ProcessGroup ranks_;
  std::vector<int64_t> latent_rows_;  // the rows of each rank in the latent, [ranks]
};

}  // namespace ospnext::vae
