// Guards: their notation, when they end a training, and their state.
#include "rl/guards.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace ospnext {
namespace {

std::string refusal(const std::function<void()>& work) {
  try {
    work();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Guards, ReadNamesWithColonsAndBothKindsOfBounds) {
  const auto guards = parse_guards({"motion:0.5x:2x", "score:h:80#x:-1.5:", "diversity::3"},
                                   {"motion", "score:h:80#x"});
  ASSERT_EQ(guards.size(), 3U);
  EXPECT_EQ(guards[0].name, "motion");
  EXPECT_TRUE(guards[0].low->is_relative && guards[0].high->is_relative);
  EXPECT_EQ(guards[0].high->value, 2);
  EXPECT_EQ(guards[1].name, "score:h:80#x");
  EXPECT_EQ(guards[1].low->value, -1.5);
  EXPECT_FALSE(guards[1].low->is_relative || guards[1].high);
  EXPECT_FALSE(guards[2].low);
  EXPECT_EQ(guards[2].high->value, 3);
}

TEST(Guards, RefuseWhatIsNoGuard) {
  for (const char* text : {"motion", "motion:1", "motion::", ":1:2", "motion:a:", "motion:1:nan",
                           "motion:x:", "motion:1:2:"}) {
    EXPECT_TRUE(refusal([&] { parse_guards({text}, {"motion"}); }).starts_with("`guard`: found"))
        << text;
  }
  EXPECT_EQ(refusal([] { parse_guards({"beauty:1:"}, {"motion"}); }),
            "`guard`: found \"beauty\", expected a name of `reward` or `watch`, or diversity: "
            "motion, diversity");
  EXPECT_EQ(refusal([] { parse_guards({"motion:2x:1x"}, {"motion"}); }),
            "`guard`: found \"motion:2x:1x\", expected a LOW of at most HIGH");
  EXPECT_EQ(refusal([] {
              parse_guards({"motion:1:", "motion::2"}, {"motion"});
            }),
            "`guard`: found motion twice, expected it once");
}

GuardWatch watch(const std::string& text) {
  return {parse_guards({text}, {"motion"}), 2};
}

TEST(Guards, CompareMovingMeansWithTheBeginning) {
  GuardWatch guards = watch("motion:0.5x:");
  guards.add({{"motion", 1.0}}, 5);
  EXPECT_EQ(guards.reward(), std::nullopt);  // too few epochs
  guards.add({{"motion", 3.0}}, 7);          // the beginning is 2
  EXPECT_EQ(guards.violation(), "");
  EXPECT_EQ(guards.reward(), 6);
  guards.add({{"motion", 0.25}}, 9);  // a mean of 1.625
  EXPECT_EQ(guards.violation(), "");
  EXPECT_EQ(guards.reward(), 8);
  guards.add({{"motion", 1.5}}, 9);
  EXPECT_EQ(guards.violation(),
            "motion: the mean over the last 2 epochs is 0.875, expected at least 0.5 times that of "
            "the first, 2.0");
  EXPECT_EQ(guards.reward(), std::nullopt);
}

TEST(Guards, CompareMovingMeansWithNumbers) {
  GuardWatch guards = watch("motion:-1:0.5");
  guards.add({{"motion", 0.0}}, 1);
  guards.add({{"motion", 0.9}}, 1);
  EXPECT_EQ(guards.violation(), "");
  guards.add({{"motion", 0.2}}, 1);
  EXPECT_EQ(guards.violation(),
            "motion: the mean over the last 2 epochs is 0.55, expected at most 0.5");
}

TEST(Guards, RefuseBoundsRelativeToNothing) {
  GuardWatch guards = watch("motion:0.5x:");
  guards.add({{"motion", 0.0}}, 1);
  EXPECT_EQ(
      refusal([&] {
        guards.add({{"motion", 0.0}}, 1);
      }),
      "`guard`: motion: found a mean of 0.0 over the first 2 epochs, expected more than 0 for "
      "a bound with an x");
}

TEST(Guards, GoOnFromTheirState) {
  GuardWatch whole = watch("motion:0.9x:"), first = watch("motion:0.9x:"),
             second = watch("motion:0.9x:");
  const auto add = [](GuardWatch& guards, double value) { guards.add({{"motion", value}}, value); };
  for (const double value : {1.0, 2.0, 3.0}) {
    add(whole, value);
    add(first, value);
  }
  second.restore(nlohmann::json::parse(first.state().dump()), "here");
  EXPECT_EQ(second.state(), first.state());
  for (const double value : {0.5, 0.25}) {
    add(whole, value);
    add(second, value);
    EXPECT_EQ(whole.violation(), second.violation());
  }
  EXPECT_NE(second.violation(), "");
  const auto refused = [&](const char* text) {
    return refusal([&] { second.restore(nlohmann::json::parse(text), "here"); });
  };
  EXPECT_EQ(refused("[]"), "here: found [], expected histories by name");
  EXPECT_EQ(refused(R"({"motion": 3})"), "here: \"motion\": found 3, expected first and last");
  EXPECT_EQ(refused(R"({"motion": {"first": [1], "last": ["a"]}})"),
            "here: \"motion\": last: found \"a\", expected a number");
  EXPECT_EQ(refused(R"({"motion": {"first": [], "last": [1]}})"),
            "here: \"motion\": found no numbers, expected some");
}

}  // namespace
}  // namespace ospnext
