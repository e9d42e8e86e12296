// Averages of weights, also against OSP-Next's rule in float64 (tools/make_training_fixtures.py).
#include "train/ema.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "io/weights.h"
#include "support/compare.h"
#include "support/paths.h"

namespace ospnext {
namespace {

constexpr EmaConfig kWarm{.decay = 0.5, .every = 1, .warm_up = true};

TEST(Ema, AveragesWithTheWarmedUpDecayAndSwapsBothWays) {
  at::Tensor parameter = at::zeros({3});
  Ema ema(NamedTensors{{"p", parameter}}, kWarm);
  parameter.fill_(1);
  ema.update();  // decay min(0.5, 1/10)
  EXPECT_NEAR(ema.shadow().at("p")[0].item<double>(), 0.9, 1e-6);
  ema.update();  // decay min(0.5, 2/11)
  EXPECT_NEAR(ema.shadow().at("p")[0].item<double>(), 1 - 0.1 * 2 / 11, 1e-6);
  ema.swap();
  EXPECT_NEAR(parameter[0].item<double>(), 1 - 0.1 * 2 / 11, 1e-6);
  ema.swap();
  EXPECT_EQ(parameter[0].item<double>(), 1.0);
}

TEST(Ema, FollowsOspNextWithoutWarmUp) {
  const auto fixture = read_tensors(fixture_path("training/ema.safetensors"));
  for (const auto& [name, config] :
       {std::pair("0.9999_1", EmaConfig{}), std::pair("0.9_1", EmaConfig{.decay = 0.9}),
        std::pair("0.5_3", EmaConfig{.decay = 0.5, .every = 3})}) {
    const at::Tensor& rows = fixture.at(std::string("parameters_") + name);
    const at::Tensor& expected = fixture.at(std::string("shadow_") + name);
    const at::Tensor parameter = rows[0].clone();
    Ema ema(NamedTensors{{"p", parameter}}, config);
    for (int64_t i = 0; i < rows.size(0); ++i) {
      if (i > 0) {
        parameter.copy_(rows[i]);
        ema.update();
      }
      EXPECT_LE(relative_max(ema.shadow().at("p"), expected[i]), 1e-6) << name << " " << i;
    }
  }
}

TEST(Ema, UpdatesAtEveryFewStepsAlsoAfterLoading) {
  constexpr EmaConfig kSeldom{.decay = 0.5, .every = 3};
  const at::Tensor parameter = at::ones({2}), loaded_parameter = at::ones({2});
  Ema whole(NamedTensors{{"p", parameter}}, kSeldom);
  parameter.fill_(2);
  whole.update();
  whole.update();
  EXPECT_EQ(whole.shadow().at("p")[0].item<double>(), 1.0);
  Ema loaded(NamedTensors{{"p", loaded_parameter}}, kSeldom);
  loaded.load(whole.shadow(), /*steps=*/2);
  loaded_parameter.fill_(2);
  for (Ema* ema : {&whole, &loaded}) {
    ema->update();
    EXPECT_EQ(ema->shadow().at("p")[0].item<double>(), 1.5);
  }
}

TEST(Ema, CountsUpdatesForItsWarmUp) {
  const at::Tensor parameter = at::zeros({1});
  Ema ema(NamedTensors{{"p", parameter}}, {.decay = 0.99, .every = 2, .warm_up = true});
  parameter.fill_(1);
  for (int step = 0; step < 4; ++step) {
    ema.update();
  }
  EXPECT_NEAR(ema.shadow().at("p")[0].item<double>(), 1 - 0.1 * 2 / 11, 1e-6);
}

TEST(Ema, TakesFlatShardsAndEmptyOnes) {
  const at::Tensor whole = at::rand({5, 3});
  const at::Tensor flat = whole.flatten().clone();  // [15]
  const at::Tensor begin = flat.slice(0, 0, 4), end = flat.slice(0, 4), none = flat.slice(0, 15);
  Ema of_whole(NamedTensors{{"p", whole}}, {.decay = 0.75});
  Ema of_shards(NamedTensors{{"begin", begin}, {"end", end}, {"none", none}}, {.decay = 0.75});
  Ema of_nothing(NamedTensors{}, {.decay = 0.75});
  for (const double factor : {2.0, -3.0}) {
    whole.mul_(factor);
    flat.mul_(factor);
    for (Ema* ema : {&of_whole, &of_shards, &of_nothing}) {
      ema->update();
    }
  }
  const auto shards = of_shards.shadow();
  EXPECT_LE(relative_max(at::cat({shards.at("begin"), shards.at("end"), shards.at("none")}),
                         of_whole.shadow().at("p").flatten()),
            1e-6);
  EXPECT_TRUE(of_nothing.shadow().empty());
  of_nothing.swap();
}

TEST(Ema, RefusesOtherDtypesAndBadSettings) {
  EXPECT_THROW(Ema(NamedTensors{{"p", at::ones({2}, at::kBFloat16)}}, {}), c10::Error);
  EXPECT_NO_THROW(EmaConfig().check());
  for (const EmaConfig& bad : {EmaConfig{.decay = 1.0}, EmaConfig{.decay = -0.1},
                               EmaConfig{.every = 0}, EmaConfig{.every = -1}}) {
    EXPECT_THROW(bad.check(), InputError);
  }
  try {
    EmaConfig{.decay = 2}.check("ema_");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "`ema_decay`: found 2.0, expected 0.0 to 0.9999999");
  }
}

}  // namespace
}  // namespace ospnext
