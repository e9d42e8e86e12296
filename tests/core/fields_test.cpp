#include "core/fields.h"

#include <gtest/gtest.h>

#include <limits>

namespace ospnext {
namespace {

struct Config {
  int64_t steps = 3;
  double shift = 1.5;
  bool fast = false;
  std::string name = "a";
  std::vector<std::string> sizes = {"1x1"};
  uint64_t seed = 7;
  std::vector<int64_t> grid;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("steps", steps, "");
    field("shift", shift, "");
    field("fast", fast, "");
    field("name", name, "");
    field("sizes", sizes, "");
    field("seed", seed, "");
    field("grid", grid, "");
  }
};

std::string refusal(const nlohmann::json& json) {
  Config config;
  try {
    fields_from_json(config, json, "file.json");
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Fields, GoToJsonAndBack) {
  Config config;
  config.steps = 7;
  config.sizes = {"2x2", "3x3"};
  Config read;
  fields_from_json(read, fields_to_json(config), "file.json");
  EXPECT_EQ(fields_to_json(read), fields_to_json(config));
  EXPECT_EQ(read.steps, 7);
}

TEST(Fields, KeepWhatTheJsonDoesNotName) {
  Config config;
  fields_from_json(config, {{"shift", 2}}, "file.json");
  EXPECT_EQ(config.shift, 2.0);
  EXPECT_EQ(config.steps, 3);
}

TEST(Fields, RefuseValuesOfAnotherTypeByName) {
  EXPECT_EQ(refusal({{"steps", 1.5}}), "file.json: steps: found 1.5, expected a value like 3");
  EXPECT_EQ(refusal({{"steps", true}}), "file.json: steps: found true, expected a value like 3");
  EXPECT_EQ(refusal({{"fast", 1}}), "file.json: fast: found 1, expected a value like false");
  EXPECT_EQ(refusal({{"name", 1}}), "file.json: name: found 1, expected a value like \"a\"");
  EXPECT_EQ(refusal({{"sizes", "1x1"}}),
            "file.json: sizes: found \"1x1\", expected a value like [\"1x1\"]");
  EXPECT_EQ(refusal(nlohmann::json::array()), "file.json: expected a JSON object, found array");
}

TEST(Fields, HoldEveryWholeNumberOfTheirTypeAndNoOther) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  Config config;
  fields_from_json(config, {{"seed", kMost}, {"steps", -3}}, "file.json");
  EXPECT_EQ(config.seed, kMost);
  EXPECT_EQ(config.steps, -3);
  EXPECT_EQ(fields_to_json(config)["seed"].dump(), "18446744073709551615");
  EXPECT_EQ(refusal({{"seed", -1}}),
            "file.json: seed: found -1, expected 0 to 18446744073709551615");
  EXPECT_EQ(refusal({{"steps", kMost}}),
            "file.json: steps: found 18446744073709551615, expected -9223372036854775808 to "
            "9223372036854775807");
  EXPECT_EQ(refusal({{"seed", 1.8446744073709552e19}}).substr(0, 22), "file.json: seed: found");
  EXPECT_EQ(refusal({{"grid", {1, kMost}}}),
            "file.json: grid: found [1,18446744073709551615], expected a value like []");
  EXPECT_NE(refusal({{"grid", {1.5}}}), "accepted");
}

TEST(Fields, RefuseOrListUnknownKeys) {
  EXPECT_EQ(refusal({{"stepz", 1}}), "file.json: unknown key \"stepz\"");
  Config config;
  std::vector<std::string> unknown;
  fields_from_json(config, {{"stepz", 1}, {"steps", 2}}, "file.json", &unknown);
  EXPECT_EQ(unknown, std::vector<std::string>{"stepz"});
  EXPECT_EQ(config.steps, 2);
}

}  // namespace
}  // namespace ospnext
