#include "parallel/exchanges.h"

#include <torch/autograd.h>

#include "core/torch/kept_value.h"

namespace ospnext {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// A collective, as the backward pass needs it.
struct Call {
  ProcessGroup group;
  std::vector<int64_t> sent, received;
  const char* purpose;
};

struct ExchangeRows : torch::autograd::Function<ExchangeRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Call& call) {
    context->saved_data["call"] = keep_value(call);
    return call.group.all_to_all(x, call.sent, call.received, call.purpose);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Call& call = kept_value<Call>(context->saved_data["call"]);
    return {call.group.all_to_all(gradients[0], call.received, call.sent, call.purpose), {}};
  }
};

struct GatherRows : torch::autograd::Function<GatherRows> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const Call& call) {
    context->saved_data["call"] = keep_value(call);
    return call.group.all_gather(x, call.received, call.purpose);
  }
  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const Call& call = kept_value<Call>(context->saved_data["call"]);
    const int64_t own = call.received[call.group.rank()], n = call.group.size();
    // n times this rank's rows: a gradient from each rank
    const at::Tensor parts = call.group.all_to_all(gradients[0], call.received,
                                                   std::vector<int64_t>(n, own), call.purpose);
    return {parts.unflatten(0, {n, own}).sum(0), {}};  // [n, own, ...] -> [own, ...]
  }
};

}  // namespace

at::Tensor exchange_rows(const ProcessGroup& group, const at::Tensor& x,
                         const std::vector<int64_t>& sent, const std::vector<int64_t>& received,
                         const char* purpose) {
  return ExchangeRows::apply(x, Call{group, sent, received, purpose});
}

at::Tensor gather_rows(const ProcessGroup& group, const at::Tensor& x,
                       const std::vector<int64_t>& rows, const char* purpose) {
  return group.alone() ? x : GatherRows::apply(x, Call{group, {}, rows, purpose});
}

}  // namespace ospnext
