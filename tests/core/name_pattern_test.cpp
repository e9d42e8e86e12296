#include "core/name_pattern.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace ospnext {
namespace {

TEST(NamePattern, AStarStandsForAnyCharacters) {
  for (const char* fitting : {"blocks.12.self_attn.q.weight", "*", "blocks.*", "*.weight",
                              "blocks.*.self_attn.*", "b*2*q*t", "**.q.*", "blocks.12*.self*"}) {
    EXPECT_TRUE(fits_pattern("blocks.12.self_attn.q.weight", fitting)) << fitting;
  }
  for (const char* other : {"", "blocks", "self_attn.q.weight", "blocks.*.self_attn", "*.bias",
                            "*.weight.*", "blocks.1.*", "*q.q.weight"}) {
    EXPECT_FALSE(fits_pattern("blocks.12.self_attn.q.weight", other)) << other;
  }
  EXPECT_TRUE(fits_pattern("", "*"));
  EXPECT_FALSE(fits_pattern("", "a"));
}

TEST(NamePattern, AnEndingBeginsAfterADot) {
  for (const char* fitting : {"q", "self_attn.q", "blocks.0.self_attn.q", "*attn.q"}) {
    EXPECT_TRUE(fits_ending("blocks.0.self_attn.q", fitting)) << fitting;
  }
  for (const char* other : {"attn.q", "self_attn", "blocks.0"}) {
    EXPECT_FALSE(fits_ending("blocks.0.self_attn.q", other)) << other;
  }
}

TEST(NamePattern, OneThatFitsNothingIsNamed) {
  const std::vector<std::string> names = {"a.x", "b.y", "c.x"};
  EXPECT_EQ(fitting_names(names, {"*.x", "c.*"}, fits_pattern, "`f`", "the names"),
            (std::vector<std::string>{"a.x", "c.x"}));
  try {
    fitting_names(names, {"*.x", "x"}, fits_pattern, "`f`", "the names");
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "`f`: found \"x\", which fits none of the names");
  }
}

}  // namespace
}  // namespace ospnext
