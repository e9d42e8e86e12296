// Compares the cleaning of prompts with ftfy and html.unescape (tools/make_text_fixtures.py).
#include "text/prompt_cleaning.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "support/paths.h"
#include "text/prompt_html.h"
#include "text/prompt_mojibake.h"
#include "text/prompt_repairs.h"

namespace ospnext {
namespace {

struct Case {
  std::string text;
  std::string fixed;      // result of ftfy.fix_text
  std::string unescaped;  // result of html.unescape
  std::string cleaned;    // result of prompt_clean
};

std::vector<Case> cases() {
  std::ifstream file(fixture_path("text/cleaning.json"));
  std::vector<Case> result;
  for (const auto& row : nlohmann::json::parse(file)) {
    result.push_back({row[0], row[1], row[2], row[3]});
  }
  return result;
}

Text decoded(std::string_view text) {
  return decode_utf8(text).value();
}

TEST(FixText, EqualsFtfy) {
  int compared = 0;
  for (const Case& item : cases()) {
    EXPECT_EQ(encode_utf8(fix_text(decoded(item.text))), item.fixed) << "of " << item.text;
    ++compared;
  }
  std::printf("fix_text compared with ftfy on %d texts\n", compared);
  EXPECT_GT(compared, 400);
}

TEST(UnescapeHtml, EqualsPython) {
  for (const Case& item : cases()) {
    EXPECT_EQ(encode_utf8(unescape_html(decoded(item.text))), item.unescaped) << "of " << item.text;
  }
}

TEST(CleanPrompt, EqualsDiffusers) {
  for (const Case& item : cases()) {
    EXPECT_EQ(clean_prompt(item.text), item.cleaned) << "of " << item.text;
  }
}

TEST(CleanPrompt, GivesTheDefaultNegativePromptAsciiCommas) {
  const std::string cleaned = clean_prompt(kDefaultNegativePrompt);
  EXPECT_EQ(cases().front().text, kDefaultNegativePrompt);
  EXPECT_EQ(cleaned, cases().front().cleaned);
  EXPECT_EQ(cleaned.find("，"), std::string::npos);
  EXPECT_NE(cleaned.find("JPEG压缩残留,"), std::string::npos);
}

TEST(CleanPrompt, RefusesWhatIsNotUtf8) {
  for (const char* text :
       {"caf\xe9", "\xff", "\xed\xa0\x80", "\xc0\x80", "\xf4\x90\x80\x80", "\xe2\x82"}) {
    EXPECT_THROW(clean_prompt(text), InputError);
  }
}

TEST(CleanPrompt, EndsOnDeeplyNestedReferencesAndLongText) {
  std::string nested = "&";
  for (int i = 0; i < 3000; ++i) {
    nested += "amp;";
  }
  EXPECT_NO_THROW(clean_prompt(nested + "lt;"));
  std::string mojibake;
  for (int i = 0; i < 20000; ++i) {
    mojibake += "é Ã© ";
  }
  EXPECT_NO_THROW(clean_prompt(mojibake));
}

TEST(Mojibake, IsToldFromWriting) {
  EXPECT_TRUE(looks_like_mojibake(U"cafÃ©"));
  EXPECT_TRUE(looks_like_mojibake(U"itâ€™s"));
  EXPECT_FALSE(looks_like_mojibake(U"café crème à la carte, Ñandú, ß"));
  EXPECT_FALSE(looks_like_mojibake(U"Привет, 你好, こんにちは, €20 – “ok”"));
}

}  // namespace
}  // namespace ospnext
