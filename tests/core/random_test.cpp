#include "core/torch/random.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "core/torch/device.h"
#include "core/torch/shape_check.h"

namespace ospnext {
namespace {

at::Tensor draw(at::Generator generator) {
  return at::randn({64}, generator);
}

TEST(SeededGenerator, DependsOnSeedPurposeAndIndexAndNothingElse) {
  const at::Tensor base = draw(seeded_generator(1, "noise", 2));
  draw(seeded_generator(9, "other"));
  EXPECT_TRUE(at::equal(base, draw(seeded_generator(1, "noise", 2))));
  EXPECT_FALSE(at::equal(base, draw(seeded_generator(2, "noise", 2))));
  EXPECT_FALSE(at::equal(base, draw(seeded_generator(1, "noisy", 2))));
  EXPECT_FALSE(at::equal(base, draw(seeded_generator(1, "noise", 3))));
}

TEST(SeededGenerator, IsTheSameThroughADevice) {
  EXPECT_TRUE(at::equal(draw(seeded_generator(1, "noise", 2)),
                        draw(seeded_generator(at::Device("cpu"), 1, "noise", 2))));
}

TEST(NoiseGenerator, IsTorchsManualSeed) {
  at::manual_seed(7);
  EXPECT_TRUE(at::equal(at::randn({64}), draw(noise_generator(7))));
}

TEST(CheckShape, SaysWhatWasExpectedAndWhatCame) {
  const at::Tensor y = at::zeros({1, 15});
  const int64_t B = 1, L = 16;
  EXPECT_NO_THROW(CHECK_SHAPE(y, B, -1));
  try {
    CHECK_SHAPE(y, B, L);
    FAIL() << "accepted";
  } catch (const c10::Error& error) {
    EXPECT_EQ(std::string(error.what_without_backtrace()),
              "y: expected [B, L] = [1, 16], got [1, 15]");
  }
  EXPECT_THROW(CHECK_SHAPE(at::Tensor(), B), c10::Error);
  EXPECT_THROW(CHECK_SHAPE(y, B), c10::Error);
}

TEST(ParseDevice, TakesKnownNamesAndRefusesOthers) {
  EXPECT_TRUE(parse_device("cpu").is_cpu());
  for (const char* bad : {"", "gpu", "cuda:", "cuda:x", "mps", "cpu:-1"}) {
    EXPECT_THROW(parse_device(bad), InputError) << bad;
  }
  if (!at::globalContext().hasCUDA()) {
    EXPECT_THROW(parse_device("cuda"), InputError);
  }
}

TEST(ParsePrecision, TakesKnownNamesAndRefusesOthers) {
  EXPECT_EQ(parse_precision("float32"), at::kFloat);
  EXPECT_EQ(parse_precision("bf16"), at::kBFloat16);
  EXPECT_THROW(parse_precision("fp64"), InputError);
}

}  // namespace
}  // namespace ospnext
