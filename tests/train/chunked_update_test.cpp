// Where parameters, gradients, moments and averages are kept changes no bit of them.
#include "train/chunked_update.h"

#include <gtest/gtest.h>

#include "core/torch/host_memory.h"
#include "core/torch/random.h"
#include "support/on_device.h"
#include "train/ema.h"
#include "train/optimizer.h"

namespace ospnext {
namespace {

class OffloadedState : public OnDevice {};
INSTANTIATE_ON_DEVICES(OffloadedState);

// A matrix of more than one chunk, a vector and an empty shard.
std::vector<at::Tensor> random_values() {
  at::Generator draw = seeded_generator(1, "parameters");
  return {at::randn({3, 2'800'001}, draw), at::randn({7}, draw), at::zeros({0})};
}

std::vector<TrainedTensor> parameters(const std::vector<at::Tensor>& values, at::Device device,
                                      bool offloaded) {
  std::vector<at::Tensor> here = host_zeros_like(values, device);
  for (size_t i = 0; i < here.size(); ++i) {
    here[i].copy_(values[i]);
    here[i] = offloaded ? here[i] : here[i].to(device);
  }
  return {{"matrix", here[0], true, offloaded},
          {"vector", here[1], false, offloaded},
          {"empty", here[2], true, offloaded}};
}

// All numbers after two steps.
std::map<std::string, at::Tensor> trained(const std::vector<at::Tensor>& values, at::Device device,
                                          bool weights, bool state) {
  const std::vector<TrainedTensor> tensors = parameters(values, device, weights);
  const StateHome home{.offload = state, .device = device};
  AdamW optimizer(tensors, {.weight_decay = 0.1}, home);
  Ema ema(tensors, {.decay = 0.9, .every = 2}, home);
  for (const double slope : {0.3, -0.7}) {
    for (const TrainedTensor& one : tensors) {
      one.tensor.grad().copy_(one.tensor).mul_(slope);
    }
    optimizer.step(1e-2);
    optimizer.zero_grad();
    ema.update();
  }
  std::map<std::string, at::Tensor> all;
  const auto add = [&](const std::string& kind, const std::string& name, const at::Tensor& x) {
    all[kind + "." + name] = x.to(at::kCPU);
  };
  for (const TrainedTensor& one : tensors) {
    add("parameter", one.name, one.tensor);
    add("gradient", one.name, one.tensor.grad());
    add("first", one.name, optimizer.first_moments().at(one.name));
    add("second", one.name, optimizer.second_moments().at(one.name));
    add("average", one.name, ema.shadow().at(one.name));
    EXPECT_TRUE(!state || ema.shadow().at(one.name).is_cpu());
    EXPECT_TRUE(state || optimizer.first_moments().at(one.name).device().type() == device.type());
  }
  return all;
}

TEST_P(OffloadedState, HasTheSameBits) {
  const std::vector<at::Tensor> values = random_values();
  const auto expected = trained(values, device(), false, false);
  EXPECT_FALSE(at::equal(expected.at("parameter.matrix"), expected.at("average.matrix")));
  for (const auto& [weights, state] : {std::pair(false, true), {true, false}, {true, true}}) {
    for (const auto& [name, tensor] : trained(values, device(), weights, state)) {
      EXPECT_TRUE(at::equal(tensor, expected.at(name)))
          << name << ", weights " << weights << ", state " << state;
    }
  }
}

TEST(ChunkedUpdate, RunsOnceOnWholeTensorsThatStay) {
  int runs = 0;
  ChunkedUpdate(at::kCPU).run({{{at::zeros({3'000'000, 3}), at::zeros({2})}}},
                              [&](const UpdatedParts& parts) {
                                ++runs;
                                EXPECT_EQ(parts[0][0].dim(), 2);
                              });
  EXPECT_EQ(runs, 1);
}

TEST(ChunkedUpdate, OfNoElementsDoesNothing) {
  ChunkedUpdate(at::kCPU).run({{{at::zeros({0})}, /*offloaded=*/true}},
                              [](const UpdatedParts&) { FAIL(); });
}

TEST(ChunkedUpdate, WritesBackOnlyWhatIsWritten) {
  const at::Tensor written = at::zeros({4}), read = at::zeros({4});
  ChunkedUpdate(at::kCPU).run(
      {{{written}, /*offloaded=*/true, /*written=*/true}, {{read}, /*offloaded=*/true}},
      [](const UpdatedParts& parts) {
        parts[0][0].fill_(1);
        parts[1][0].fill_(1);
      });
  EXPECT_TRUE(at::equal(written, at::ones({4})));
  EXPECT_TRUE(at::equal(read, at::zeros({4})));
}

}  // namespace
}  // namespace ospnext
