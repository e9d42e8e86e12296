// The window of noisy steps against traces of MixGRPO's rule (tools/make_rl_fixtures.py).
#include "rl/sde_window.h"

#include <gtest/gtest.h>

#include <set>

#include "core/error.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

SdeWindowConfig mix(const std::string& window) {
  return {.algorithm = "mix",
          .sde_steps = 4,
          .window = window,
          .window_stride = 1,
          .window_iterations = 3,
          .roll_back = true,
          .flash_ratio = 0};
}

TEST(SdeWindow, MovesAsInMixGrpo) {
  const Fixture fixture("rl/schedules.safetensors");
  const auto& cases = fixture.settings.at("window");
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto& [kind, steps, size, stride, iterations, rolls_back] =
        cases.at(i).get<std::tuple<std::string, int64_t, int64_t, int64_t, int64_t, int>>();
    SdeWindow window({.algorithm = "mix",
                      .sde_steps = size,
                      .window = kind,
                      .window_stride = stride,
                      .window_iterations = iterations,
                      .roll_back = rolls_back != 0,
                      .flash_ratio = 0},
                     steps, 1);
    const at::Tensor& expected = fixture.at("window_" + std::to_string(i));
    for (int64_t j = 0; j < expected.size(0); ++j) {
      EXPECT_EQ(window.range().begin, expected[j][0].item<int64_t>()) << i << " " << j;
      EXPECT_EQ(window.range().end, expected[j][1].item<int64_t>()) << i << " " << j;
      window.advance();
    }
  }
}

TEST(SdeWindow, IsTheFirstStepsInOspNextsForm) {
  SdeWindow window({.algorithm = "osp", .sde_steps = 10}, 25, 1);
  for (int i = 0; i < 60; ++i) {
    EXPECT_EQ(window.range(), (StepRange{0, 10}));
    window.advance();
  }
}

TEST(SdeWindow, IsEmptyWithNft) {
  SdeWindow window({.algorithm = "nft"}, 2, 1);
  window.advance();
  EXPECT_EQ(window.range(), (StepRange{0, 0}));
  EXPECT_EQ(window.state().iterations, 1);
  window.load({.iterations = 7});
  EXPECT_EQ(window.state().iterations, 7);
}

TEST(SdeWindow, BeginsAnywhereWhenRandom) {
  SdeWindow window(mix("random"), 10, 7);
  std::set<int64_t> begins;
  for (int i = 0; i < 200; ++i) {
    EXPECT_EQ(window.range().end - window.range().begin, 4);
    begins.insert(window.range().begin);
    window.advance();
  }
  EXPECT_EQ(begins, (std::set<int64_t>{0, 1, 2, 3, 4}));
}

TEST(SdeWindow, GoesOnFromASavedState) {
  for (const char* kind : {"progressive", "random", "decaying"}) {
    SdeWindow whole(mix(kind), 20, 3);
    for (int i = 0; i < 17; ++i) {
      whole.advance();
    }
    SdeWindow resumed(mix(kind), 20, 3);
    resumed.load(whole.state());
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(whole.range(), resumed.range()) << kind << " " << i;
      whole.advance();
      resumed.advance();
    }
  }
}

TEST(SdeWindow, RefusesImpossibleSettingsAndStates) {
  const auto refuses = [](const auto& action, const std::string& part) {
    try {
      action();
      ADD_FAILURE() << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  };
  const auto made = [](SdeWindowConfig config, int64_t steps) {
    return [=] { SdeWindow(config, steps, 1); };
  };
  refuses(made({.algorithm = "ppo"}, 20), "`algorithm`: found \"ppo\", expected osp, mix or nft");
  refuses(made({.sde_steps = 21}, 20), "`sde_steps`: found 21, expected 1 to 20");
  refuses(made(mix("progressive"), 5), "`sde_steps`: found 4, expected 1 to 3");
  refuses(made(mix("progressive"), 2), "`steps` of a mix rollout: found 2");
  refuses(made(mix("sliding"), 20), "`window`: found \"sliding\"");
  refuses(made({.algorithm = "osp", .flash_ratio = 0.4}, 20), "`flash_ratio`: found with the");
  refuses(made({.algorithm = "nft", .flash_ratio = 0.4}, 20),
          "with the algorithm nft, expected with mix");
  SdeWindow window(mix("progressive"), 20, 1);
  refuses([&] { window.load({.begin = 18}); }, "begin: found 18, expected 0 to 17");
  refuses([&] { window.load({.stayed = -1}); }, "stayed: found -1");
}

}  // namespace
}  // namespace ospnext
