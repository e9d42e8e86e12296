// YAML is converted to JSON; invalid YAML is refused.
#include "io/readers/bounded_yaml.h"

#include <chrono>

#include "io/readers/reader_support.h"

namespace ospnext {
namespace {

using nlohmann::json;

json parsed(const std::string& text) {
  return parse_bounded_yaml(text, "c.yaml");
}

std::string refusal(const std::string& text) {
  try {
    parsed(text);
  } catch (const InputError& error) {
    EXPECT_EQ(std::string(error.what()).find("c.yaml: "), 0u);
    return error.what();
  }
  return "";
}

TEST(BoundedYaml, GivesScalarsTheirTypes) {
  EXPECT_EQ(
      parsed("{a: 81, b: -1.5, c: true, d: False, e: Null, f: ~, g: , h: 1e-4, i: +3, j: .5}"),
      json::parse(R"({"a": 81, "b": -1.5, "c": true, "d": false, "e": null, "f": null, "g": null,
                           "h": 1e-4, "i": 3, "j": 0.5})"));
  EXPECT_EQ(
      parsed(
          "{a: '81', b: \"true\", c: a cat, d: 0x10, e: .inf, f: nan, g: 1.2.3, h: 007, i: yes}"),
      json::parse(R"({"a": "81", "b": "true", "c": "a cat", "d": "0x10", "e": ".inf", "f": "nan",
                           "g": "1.2.3", "h": "007", "i": "yes"})"));
}

TEST(BoundedYaml, ReadsBlocksAndLists) {
  EXPECT_EQ(
      parsed(
          "# comment\ntop:\n  inner: 1\n  list:\n    - a\n    - [2, 3]\ntext: |\n  two\n  lines\n"),
      json::parse(R"({"top": {"inner": 1, "list": ["a", [2, 3]]}, "text": "two\nlines\n"})"));
  EXPECT_EQ(parsed("just text"), json("just text"));
}

TEST(BoundedYaml, RefusesWhatNoConfigurationNeeds) {
  EXPECT_NE(refusal("a: &x [1]\nb: *x").find("line 1: found an anchor"), std::string::npos);
  EXPECT_NE(refusal("a: 1\nb: *x"), "");
  EXPECT_NE(refusal("a: !!python/object:os.system x").find("the tag"), std::string::npos);
  EXPECT_NE(refusal("a: 1\na: 2").find("line 2: found the key \"a\" twice"), std::string::npos);
  EXPECT_NE(refusal("? [1, 2]\n: x").find("a key that is a list"), std::string::npos);
  EXPECT_NE(refusal("a: 1\n---\nb: 2").find("several YAML documents"), std::string::npos);
  EXPECT_NE(refusal("").find("found nothing"), std::string::npos);
  EXPECT_NE(refusal("a: [1, 2").find("expected YAML"), std::string::npos);
  EXPECT_NE(refusal("a: \"\xff\"").find("UTF-8"), std::string::npos);
}

TEST(BoundedYaml, RefusesBombsQuickly) {
  std::string laughs = "a0: &a0 [x, x]\n";
  for (int i = 1; i < 40; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    laughs += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [" + before + ", " + before +
              "]\n";
  }
  const auto repeated = [](const std::string& part) {
    std::string text;
    while (text.size() < 500'000) {
      text += part;
    }
    return text;
  };
  for (const std::string& text :
       {laughs, repeated("["), repeated("{"), repeated("- "), repeated("? "), repeated("{a: "),
        repeated("[["), repeated("!"), repeated("&a "), repeated("a: b: "), repeated("\"")}) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_NE(refusal(text), "") << text.substr(0, 20);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_LT(seconds, 1) << text.substr(0, 20);
  }
}

using BoundedYamlFile = ReaderTest;

TEST_F(BoundedYamlFile, ThatIsTooLargeOrMissingIsRefused) {
  const auto file = write("large.yaml", "a: " + std::string(2 << 20, 'x'));
  expect_refused([&] { read_yaml_file(file); }, file, "at most");
  expect_refused([&] { read_yaml_file(folder_ / "none.yaml"); }, folder_ / "none.yaml", "");
  EXPECT_EQ(read_yaml_file(write("small.yaml", "a: 1")), json::parse(R"({"a": 1})"));
}

}  // namespace
}  // namespace ospnext
