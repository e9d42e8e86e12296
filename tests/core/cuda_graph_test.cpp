#include "core/torch/cuda_graph.h"

#include <gtest/gtest.h>

#include "support/on_device.h"

namespace ospnext {
namespace {

class RecordedFunctions : public OnDevice {};
INSTANTIATE_ON_DEVICES(RecordedFunctions);

TEST_P(RecordedFunctions, AddTheSameGradientsAsCallsDo) {
  const SideStream stream(device());
  const SideStream::Scope on_stream(stream);
  const auto options = at::TensorOptions().device(device());
  const at::Tensor weight = at::ones({3}, options).requires_grad_(true);
  weight.mutable_grad() = at::zeros({3}, options);
  int64_t calls = 0;
  RecordedFunction loss_of(
      [&](const std::vector<at::Tensor>& inputs) {
        ++calls;
        const at::Tensor loss = (inputs[0] * weight).square().sum();
        loss.backward();
        return loss.detach();
      },
      /*record=*/true);
  at::Tensor expected_gradient = at::zeros({3});
  for (int64_t i = 1; i <= 5; ++i) {
    for (const int64_t rows : {2, 4}) {
      const at::Tensor x = at::full({rows, 3}, static_cast<double>(i), options);
      const double loss = loss_of({x}).item<double>();
      const auto n = static_cast<double>(rows);
      const auto value = static_cast<double>(i);
      EXPECT_DOUBLE_EQ(loss, 3 * n * value * value);
      expected_gradient += 2 * n * value * value;
    }
  }
  EXPECT_TRUE(at::equal(weight.grad().cpu(), expected_gradient));
  EXPECT_EQ(calls, device().is_cuda() ? 4 : 10) << "once to warm up and once to record, per shape";
}

}  // namespace
}  // namespace ospnext
