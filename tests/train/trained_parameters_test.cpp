#include "train/trained_parameters.h"

#include <gtest/gtest.h>

namespace ospnext {
namespace {

// Two tensors with gradients 3 and 4, whose joint norm is 5.
TrainedParameters two_tensors() {
  at::Tensor weight = at::ones({1, 1}), bias = at::ones({1});
  weight.mutable_grad() = at::full({1, 1}, 3.0);
  bias.mutable_grad() = at::full({1}, 4.0);
  return TrainedParameters({{"weight", weight}, {"bias", bias}});
}

TEST(TrainedParameters, HaveOneNormTogether) {
  TrainedParameters parameters = two_tensors();
  EXPECT_DOUBLE_EQ(parameters.gradient_norm().item<double>(), 5);
  parameters.scale_gradients(at::scalar_tensor(0.5));
  EXPECT_DOUBLE_EQ(parameters.gradient_norm().item<double>(), 2.5);
  parameters.scale_gradients(at::scalar_tensor(0.0));
  EXPECT_DOUBLE_EQ(parameters.gradient_norm().item<double>(), 0);
}

TEST(TrainedParameters, AreClippedTogether) {
  TrainedParameters parameters = two_tensors();
  EXPECT_NEAR(parameters.clip_gradients(1e3).item<double>(), 5, 5e-5);
  EXPECT_NEAR(parameters.gradient_norm().item<double>(), 5, 5e-5);
  parameters.clip_gradients(1.25);
  EXPECT_NEAR(parameters.gradient_norm().item<double>(), 1.25, 5e-4);
}

TEST(TrainedParameters, AverageTheirGradientsOverPasses) {
  TrainedParameters parameters = two_tensors();
  parameters.average_gradients(4);
  EXPECT_DOUBLE_EQ(parameters.gradient_norm().item<double>(), 1.25);
}

TEST(TrainedParameters, OnlyMatricesDecay) {
  const TrainedParameters parameters = two_tensors();
  for (const TrainedTensor& one : parameters.tensors()) {
    EXPECT_EQ(one.decays, one.name == "weight");
  }
}

}  // namespace
}  // namespace ospnext
