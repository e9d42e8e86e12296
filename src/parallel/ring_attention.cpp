#include "parallel/ring_attention.h"

#include <torch/autograd.h>

#include <numeric>

#include "core/torch/kept_value.h"
#include "kernels/partial_attention.h"

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

int64_t sum(const std::vector<int64_t>& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

// A ring of ranks and its segments. At turn 0 a rank holds its own keys; at each further turn it
// holds those that its predecessor held before.
struct Ring {
  ProcessGroup ranks;
  std::vector<std::vector<int64_t>> segments;

  int turns() const { return ranks.size(); }
  // The rank whose keys this rank holds at a turn.
  int owner(int turn) const { return (ranks.rank() + turns() - turn) % turns(); }
  // The segments of this rank's queries, and of the keys that it holds at a turn.
  const std::vector<int64_t>& own() const { return segments[ranks.rank()]; }
  const std::vector<int64_t>& held(int turn) const { return segments[owner(turn)]; }

  // Sends a row for each key held at `turn` to the next rank. -> those of the previous rank
  Pending pass_on(const at::Tensor& rows, int turn, const char* purpose) const {
    const int n = turns(), next = (ranks.rank() + 1) % n, previous = (ranks.rank() + n - 1) % n;
    std::vector<int64_t> sent(n), received(n);
    sent[next] = rows.size(0);
    received[previous] = sum(held(turn + 1));
    return ranks.start_all_to_all(rows, sent, received, purpose);
  }
};

// Keys and values in one buffer, so that one exchange sends both: b l h d -> l 2 b h d.
at::Tensor packed(const at::Tensor& k, const at::Tensor& v, at::ScalarType dtype) {
  const at::Tensor rows = at::empty({k.size(1), 2, k.size(0), k.size(2), k.size(3)},
                                    k.options().dtype(dtype).requires_grad(false));
  rows.select(1, 0).copy_(k.transpose(0, 1));  // [l, B, H, D]
  rows.select(1, 1).copy_(v.transpose(0, 1));  // [l, B, H, D]
  return rows;
}

// The keys (0) or values (1) of packed(): [B, l, H, D], a view.
at::Tensor unpacked(const at::Tensor& rows, int64_t which) {
  return rows.select(1, which).transpose(0, 1);  // [B, l, H, D]
}

// out [B, l, H, D] and log_sum [B, l, H], both float32.
PartialAttention attend_around(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                               const Ring& ring) {
  at::Tensor rows = packed(k, v, k.scalar_type());  // [l, 2, B, H, D]
  PartialAttention result;
  for (int turn = 0; turn < ring.turns(); ++turn) {
    const bool last = turn + 1 == ring.turns();
    Pending coming = last ? Pending() : ring.pass_on(rows, turn, "ring");
    const PartialAttention part =
        partial_attention(q, unpacked(rows, 0), unpacked(rows, 1), ring.own(), ring.held(turn));
    result = turn == 0 ? part : join(result, part);
    if (!last) {
      rows = coming.wait();
    }
  }
  return result;
}

// The gradients of keys and values travel with them: each rank adds its queries' part, in float32,
// and after the last turn they come back to their owner. Meanwhile a rank computes the next part.
AttentionGradients gradients_around(const at::Tensor& grad, const at::Tensor& q,
                                    const at::Tensor& k, const at::Tensor& v, const at::Tensor& out,
                                    const at::Tensor& log_sum, const Ring& ring) {
  at::Tensor rows = packed(k, v, k.scalar_type());  // [l, 2, B, H, D]
  at::Tensor by_q = at::zeros(q.sizes(), q.options().dtype(at::kFloat));
  Pending gradients;  // [l, 2, B, H, D] float32, of the keys that are held now
  for (int turn = 0; turn < ring.turns(); ++turn) {
    const bool last = turn + 1 == ring.turns();
    Pending coming = last ? Pending() : ring.pass_on(rows, turn, "ring");
    const AttentionGradients part = partial_attention_gradients(
        grad, q, unpacked(rows, 0), unpacked(rows, 1), out, log_sum, ring.own(), ring.held(turn));
    by_q.add_(part.query);
    at::Tensor sum_so_far = packed(part.key, part.value, at::kFloat);
    if (turn > 0) {
      sum_so_far.add_(gradients.wait());
    }
    gradients = ring.pass_on(sum_so_far, turn, "ring gradients");
    if (!last) {
      rows = coming.wait();
    }
  }
  const at::Tensor own = gradients.wait().to(q.scalar_type());
  return {by_q.to(q.scalar_type()), unpacked(own, 0), unpacked(own, 1)};
}

struct RingAttention : torch::autograd::Function<RingAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const Ring& ring, KeptAttention* kept) {
    KeptAttention result = kept == nullptr ? KeptAttention() : *kept;
    if (!result.out.defined()) {
      const PartialAttention found = attend_around(q, k, v, ring);
      result = {found.out.to(q.scalar_type()), found.log_sum};
    }
    if (kept != nullptr) {
      *kept = result;
    }
    context->save_for_backward({q, k, v, result.out, result.log_sum});
    context->saved_data["ring"] = keep_value(ring);
    return result.out.view_as(result.out);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const AttentionGradients found =
        gradients_around(gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4],
                         kept_value<Ring>(context->saved_data["ring"]));
    return {found.query, found.key, found.value, {}, {}};
  }
};

}  // namespace

at::Tensor ring_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                          const std::vector<std::vector<int64_t>>& segments,
                          const ProcessGroup& ring, KeptAttention* kept) {
  return RingAttention::apply(q, k, v, Ring{ring, segments}, kept);
}

}  // namespace ospnext
