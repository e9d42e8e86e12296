#include "models/vae_strips.h"

#include <numeric>

#include "core/torch/shape_check.h"

namespace ospnext::vae {
namespace {

// b c t h w -> h b t w c, a view. Collectives exchange slices of the first dimension: rows.
at::Tensor rows_first(const at::Tensor& x) {
  return x.permute({3, 0, 2, 4, 1});  // [H, B, T, W, C]
}

// h b t w c -> b c t h w, a view.
at::Tensor rows_inside(const at::Tensor& rows) {
  return rows.permute({1, 4, 2, 0, 3});  // [B, C, T, H, W]
}

}  // namespace

Strips::Strips(ProcessGroup ranks, int64_t latent_rows) : ranks_(std::move(ranks)) {
  const int64_t n = ranks_.size();
  TORCH_CHECK(latent_rows >= n, "strips: ", latent_rows, " rows for ", n, " ranks");
  for (int64_t rank = 0; rank < n; ++rank) {
    latent_rows_.push_back((rank + 1) * latent_rows / n - rank * latent_rows / n);
  }
}

at::Tensor Strips::own(const at::Tensor& latent) const {
  if (whole()) {
    return latent;
  }
  const auto mine = latent_rows_.begin() + ranks_.rank();
  return latent.narrow(3, std::accumulate(latent_rows_.begin(), mine, int64_t{0}), *mine);
}

at::Tensor Strips::with_neighbours(const at::Tensor& x) const {
  CHECK_SHAPE(x, -1, -1, -1, -1, -1);
  if (whole()) {
    return x;
  }
  const int64_t H = x.size(3);
  const int rank = ranks_.rank(), n = ranks_.size();
  std::vector<int64_t> exchanged(n, 0);                             // rows to and from each rank
  std::vector<at::Tensor> edges = {rows_first(x.narrow(3, 0, 0))};  // no row, then [1, B, T, W, C]
  if (rank > 0) {
    exchanged[rank - 1] = 1;
    edges.push_back(rows_first(x.narrow(3, 0, 1)));
  }
  if (rank + 1 < n) {
    exchanged[rank + 1] = 1;
    edges.push_back(rows_first(x.narrow(3, H - 1, 1)));
  }
  const at::Tensor received = ranks_.all_to_all(at::cat(edges), exchanged, exchanged, "rows");
  const at::Tensor out = at::empty({x.size(0), x.size(1), x.size(2), H + 2, x.size(4)},
                                   x.options().memory_format(at::MemoryFormat::ChannelsLast3d));
  const at::Tensor rows = rows_first(out);  // [H + 2, B, T, W, C]
  rows.narrow(0, 1, H).copy_(rows_first(x));
  rank > 0 ? rows[0].copy_(received[0]) : rows[0].zero_();
  rank + 1 < n ? rows[H + 1].copy_(received[-1]) : rows[H + 1].zero_();
  return out;
}

at::Tensor Strips::gather(const at::Tensor& x, const char* purpose) const {
  return whole() ? x : rows_inside(ranks_.all_gather(rows_first(x), rows_like(x), purpose));
}

at::Tensor Strips::collect(const at::Tensor& x, const char* purpose) const {
  if (whole()) {
    return x;
  }
  std::vector<int64_t> sent(ranks_.size(), 0);
  sent[0] = x.size(3);
  const std::vector<int64_t> received =
      leads() ? rows_like(x) : std::vector<int64_t>(ranks_.size(), 0);
  return rows_inside(ranks_.all_to_all(rows_first(x), sent, received, purpose));
}

std::vector<int64_t> Strips::rows_like(const at::Tensor& x) const {
  const int64_t scale = x.size(3) / latent_rows_[ranks_.rank()];
  std::vector<int64_t> rows = latent_rows_;
  for (int64_t& count : rows) {
    count *= scale;
  }
  return rows;
}

}  // namespace ospnext::vae
