// Advantages against a float64 reference (tools/make_rl_fixtures.py), and groups at the edge.
#include "rl/advantages.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/torch/random.h"
#include "support/compare.h"
#include "support/fixture_settings.h"

namespace ospnext {
namespace {

constexpr double kSame = 1e-9;  // of the largest value: distances from a mean lose a few digits

Advantages osp_of(const std::vector<double>& rewards, const std::vector<int64_t>& groups) {
  return osp_advantages(at::tensor(rewards, at::kDouble).unsqueeze(1),  // [n, 1]
                        at::ones({1}), at::tensor(groups, at::kLong));
}

TEST(Advantages, FollowTheFormulasOfBothForms) {
  const Fixture fixture("rl/advantages.safetensors");
  for (const std::string name : {"even", "uneven", "flat", "far"}) {
    const auto of = [&](const std::string& what) { return fixture.at(name + "." + what); };
    const Advantages osp = osp_advantages(of("rewards"), of("weights"), of("groups"));
    EXPECT_LE(relative_max(osp.values, of("osp")), kSame) << name;
    EXPECT_TRUE(osp.kept.to(at::kLong).equal(of("kept"))) << name;
    const Advantages spread =
        osp_advantages(of("rewards"), of("weights"), of("groups"), 5, SpreadOf::kAll);
    EXPECT_LE(relative_max(spread.values, of("osp_all")), kSame) << name;
    const Advantages mix = mix_advantages(of("rewards"), of("weights"), of("groups"));
    EXPECT_LE(relative_max(mix.values, of("mix")), kSame) << name;
    EXPECT_TRUE(mix.kept.all().item<bool>()) << name;
    EXPECT_GT(relative_max(mix.values, of("osp")), 1e-3) << "a planted mistake";
  }
}

TEST(Advantages, AreZeroAndDroppedWithoutSpread) {
  const Advantages one = osp_of({3, 1, 2}, {0, 1, 1});  // a group of one
  EXPECT_EQ(one.values[0].item<double>(), 0);
  EXPECT_FALSE(one.kept[0].item<bool>());
  EXPECT_TRUE(one.kept[1].item<bool>());
  const Advantages equal = osp_of({0.1, 0.1, 0.1}, {5, 5, 5});  // their mean is not quite 0.1
  EXPECT_TRUE(equal.values.eq(0).all().item<bool>());
  EXPECT_FALSE(equal.kept.any().item<bool>());
}

TEST(Advantages, AreClampedAtFive) {
  std::vector<double> rewards(40, 0.0);
  rewards[3] = 1;
  const Advantages far = osp_of(rewards, std::vector<int64_t>(40, 0));
  EXPECT_EQ(far.values.max().item<double>(), 5);
}

TEST(Advantages, RefuseNanAndOtherShapes) {
  const at::Tensor groups = at::zeros({2}, at::kLong), weights = at::ones({1});
  EXPECT_THROW(osp_advantages(at::full({2, 1}, NAN), weights, groups), c10::Error);
  EXPECT_THROW(mix_advantages(at::full({2, 1}, INFINITY), weights, groups), c10::Error);
  EXPECT_THROW(osp_advantages(at::ones({2, 2}), weights, groups), c10::Error);
  EXPECT_THROW(osp_advantages(at::ones({2, 1}), weights, groups.to(at::kInt)), c10::Error);
}

TEST(Refilling, TakesDroppedSamplesBackUntilPartsAreFull) {
  const Advantages some = osp_of({1, 2, 7, 7, 7, 7, 7, 7}, {0, 0, 1, 1, 2, 2, 3, 3});
  const Advantages full = refilled(some, 4, seeded_generator(1, "test"));
  EXPECT_EQ(full.kept.sum().item<int64_t>(), 4);
  EXPECT_TRUE(full.kept.slice(0, 0, 2).all().item<bool>());
  EXPECT_TRUE(full.values.equal(some.values));
  EXPECT_TRUE(full.kept.equal(refilled(some, 4, seeded_generator(1, "test")).kept));
  EXPECT_TRUE(refilled(some, 2, seeded_generator(1, "test")).kept.equal(some.kept));
}

TEST(Refilling, KeepsAllWhenNoGroupHasSpread) {
  const Advantages none = osp_of({7, 7, 7, 7}, {0, 0, 1, 1});
  const Advantages all = refilled(none, 2, seeded_generator(1, "test"));
  EXPECT_TRUE(all.kept.all().item<bool>());
  EXPECT_TRUE(all.values.eq(1e-6).all().item<bool>());
  EXPECT_THROW(refilled(none, 3, seeded_generator(1, "test")), c10::Error);
}

}  // namespace
}  // namespace ospnext
