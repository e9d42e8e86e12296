#include "kernels/kept_attention.h"

#include <torch/autograd.h>

#include "kernels/partial_attention.h"
#ifdef OSPNEXT_CUDA
#include "kernels/attention_cuda.h"
#endif

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

KeptAttention computed(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                       const std::vector<int64_t>& lengths) {
#ifdef OSPNEXT_CUDA
  if (cuda::takes_attention(q, k, v) && cuda::takes_segments(lengths)) {
    const auto [out, log_sum] = cuda::attention_and_log_sum(q, k, v, lengths);
    return {out, log_sum};
  }
#endif
  const PartialAttention all = lengths.empty()
                                   ? partial_attention(q, k, v, {q.size(1)}, {k.size(1)})
                                   : partial_attention(q, k, v, lengths, lengths);
  return {all.out.to(q.scalar_type()), all.log_sum};
}

struct Keeping : torch::autograd::Function<Keeping> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const std::vector<int64_t>& lengths,
                            KeptAttention* kept) {
    if (!kept->out.defined()) {
      *kept = computed(q, k, v, lengths);
    }
    context->save_for_backward({q, k, v, kept->out, kept->log_sum});
    context->saved_data["lengths"] = lengths;
    return kept->out.view_as(kept->out);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const auto lengths = context->saved_data["lengths"].toIntVector();
    const auto of = [&](const at::Tensor& x) {
      return lengths.empty() ? std::vector<int64_t>{x.size(1)} : lengths;
    };
    const AttentionGradients found = partial_attention_gradients(
        gradients[0], saved[0], saved[1], saved[2], saved[3], saved[4], of(saved[0]), of(saved[1]));
    return {found.query, found.key, found.value, {}, {}};
  }
};

}  // namespace

at::Tensor attention_keeping(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                             const std::vector<int64_t>& lengths, KeptAttention& kept) {
  return Keeping::apply(q, k, v, lengths, &kept);
}

}  // namespace ospnext
