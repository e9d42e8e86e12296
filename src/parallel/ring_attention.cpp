#include "parallel/ring_attention.h"

#include <numeric>

#include "kernels/partial_attention.h"

namespace ospnext {
namespace {

int64_t sum(const std::vector<int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

}  // namespace

at::Tensor ring_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::vector<int64_t>>& segments,
                          const ProcessGroup& ring) {
  const int n = ring.size(), rank = ring.rank();
  const int next = (rank + 1) % n, previous = (rank + n - 1) % n;
  at::Tensor held =
      at::empty({k.size(1), 2, k.size(0), k.size(2), k.size(3)}, k.options());  // [l, 2, B, H, D]
  // keys and values in one buffer, b l h d -> l 2 b h d, so that one exchange sends both
  held.select(1, 0).copy_(k.transpose(0, 1));  // [l, B, H, D]
  held.select(1, 1).copy_(v.transpose(0, 1));  // [l, B, H, D]
  PartialAttention result;
  for (int turn = 0; turn < n; ++turn) {
    const int whose = (rank + n - turn) % n;  // the rank whose keys and values are held now
    Pending coming;
    if (turn + 1 < n) {
      std::vector<int64_t> sent(n), received(n);
      sent[next] = held.size(0);
      received[previous] = sum(segments[(whose + n - 1) % n]);
      coming = ring.start_all_to_all(held, sent, received, "ring");
    }
    const at::Tensor keys = held.select(1, 0).transpose(0, 1);    // [B, l, H, D]
    const at::Tensor values = held.select(1, 1).transpose(0, 1);  // [B, l, H, D]
    const PartialAttention part =
        partial_attention(q, keys, values, segments[rank], segments[whose]);
    result = turn == 0 ? part : join(result, part);
    if (turn + 1 < n) {
      held = coming.wait();
    }
  }
  return result.out.to(q.scalar_type());
}

}  // namespace ospnext
