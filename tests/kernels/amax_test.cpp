// The largest magnitudes that kernels compute equal those of the tensors that they store.
#include "kernels/amax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/torch/random.h"
#include "core/torch/torch.h"
#include "kernels/attention.h"
#include "kernels/modulate.h"
#include "kernels/norm.h"
#include "support/on_device.h"

namespace ospnext {
namespace {

constexpr int64_t B = 3, L = 77, H = 2, D = 128, C = H * D;

class Amax : public OnDevice {
 protected:
  at::Tensor draw(at::IntArrayRef shape, const char* purpose) const {
    return at::randn(shape, seeded_generator(9, purpose)).to(device());
  }

  // Each sample is larger than the one before it.
  at::Tensor activation(at::ScalarType dtype) const {
    return (draw({B, L, C}, "x") * at::tensor({0.01F, 1.0F, 300.0F}).to(device()).view({B, 1, 1}))
        .to(dtype);
  }

  at::Tensor zeros() const { return at::zeros({B}, at::TensorOptions().device(device())); }

  static void expect_of(const at::Tensor& amax, const at::Tensor& out) {
    EXPECT_TRUE(at::equal(amax, out.abs().flatten(1).amax(1).to(at::kFloat))) << amax;
  }

 private:
  torch::NoGradGuard no_grad_;
};
INSTANTIATE_ON_DEVICES(Amax);

TEST_P(Amax, OfNormsIsThatOfWhatTheyStore) {
  const at::Tensor turn =
      at::view_as_complex(draw({L, D / 2, 2}, "rotation").contiguous());  // need not be rotations
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    SCOPED_TRACE(dtype);
    const at::Tensor x = activation(dtype), weight = draw({C}, "weight");
    const at::Tensor shift = draw({B, 1, C}, "shift"), scale = draw({B, 1, C}, "scale");
    at::Tensor amax = zeros();
    const at::Tensor modulated = layer_norm_modulate(x, shift, scale, 1e-6, amax);
    EXPECT_TRUE(at::equal(modulated, layer_norm_modulate(x, shift, scale, 1e-6)));
    expect_of(amax, modulated);
    amax = zeros();
    const at::Tensor normed = rms_norm(x, weight, 1e-6, amax);
    expect_of(amax, normed);
    amax = zeros();
    const at::Tensor rotated = rms_norm_rotate(x, weight, turn, 1e-6, amax);
    expect_of(amax, rotated);
  }
}

TEST_P(Amax, IsRaisedAndNeverLowered) {
  const at::Tensor x = activation(at::kBFloat16), weight = at::ones({C}).to(device());
  at::Tensor amax = at::full({B}, 1e6, at::TensorOptions().device(device()));
  rms_norm(x, weight, 1e-6, amax);
  EXPECT_TRUE((amax == 1e6).all().item<bool>());
}

TEST_P(Amax, KeepsNanInItsSample) {
  at::Tensor x = activation(at::kBFloat16);
  x[1][5][7] = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor amax = zeros();
  rms_norm(x, at::ones({C}).to(device()), 1e-6, amax);
  for (int64_t b = 0; b < B; ++b) {
    EXPECT_EQ(std::isnan(amax[b].item<float>()), b == 1) << b;
  }
}

TEST_P(Amax, OfAttentionIsThatOfItsOutput) {
  const auto codes = [&](const char* purpose, at::ScalarType dtype) {
    return ScaledHeads{(draw({B, L, H, D}, purpose) * 30).to(dtype),
                       at::tensor({11.3F, 0.77F, 90.0F}).to(device())};
  };
  const ScaledHeads q = codes("q", at::kFloat8_e4m3fn), k = codes("k", at::kFloat8_e4m3fn);
  for (const at::ScalarType of_values : {at::kBFloat16, at::kFloat8_e4m3fn}) {
    const at::Tensor amax = zeros();
    const at::Tensor out =
        fp8_attention(q, k, codes("v", of_values), at::kBFloat16, {0, 40, 37}, {}, amax);
    expect_of(amax, out);
  }
}

}  // namespace
}  // namespace ospnext
