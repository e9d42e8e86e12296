// The signs of mojibake: sequences of characters that real text hardly ever contains.
#include <algorithm>
#include <iterator>
#include <vector>

#include "text/prompt_mojibake.h"

namespace ospnext {
namespace {

// Classes that are not in the table. Their bits follow those of the table.
constexpr uint32_t kLatinSmall = 1U << 24;
constexpr uint32_t kLatinCapital = 1U << 25;
constexpr uint32_t kNotLatin = 1U << 26;
constexpr uint32_t kSpace = 1U << 27;
constexpr uint32_t kWord = 1U << 28;
constexpr uint32_t kInLine = 1U << 29;  // anything but a line feed
constexpr uint32_t kStart = 1U << 30;   // the place before the first character
constexpr uint32_t kLatin = kLatinSmall | kLatinCapital;

constexpr uint32_t kAccented = kLowerAccented | kUpperAccented;
constexpr uint32_t kPunctuation = kStartPunctuation | kEndPunctuation;
constexpr uint32_t kSymbol = kPunctuation | kCurrency | kNumeric | kLaw;

// One place of a sign: it accepts characters of one of the classes or of the list. An empty place
// ends the sign.
struct Place {
  uint32_t categories = 0;
  std::u32string_view characters;

  bool empty() const { return categories == 0 && characters.empty(); }
  bool fits(char32_t c, uint32_t found) const {
    return (found & categories) != 0 || characters.find(c) != std::u32string_view::npos;
  }
};

// One to seven consecutive characters.
struct Sign {
  Place places[7];
};

constexpr Place any_of(uint32_t categories, std::u32string_view characters = {}) {
  return {categories, characters};
}
constexpr Place one_of(std::u32string_view characters) {
  return {0, characters};
}

constexpr Place kArabicSecond =
    any_of(kCommon | kCurrency | kBad | kNumeric | kStartPunctuation, U"ŸŠ®°µ»");
constexpr Place kCyrillicMiddle = any_of(kC1 | kBad | kPunctuation | kCurrency, U"°µ");
constexpr Place kGreekMiddle = any_of(kC1 | kBad | kPunctuation | kCurrency, U"°");

// The facts of ftfy 6.3.1 badness.BADNESS_RE as a table.
constexpr Sign kSigns[] = {
    {any_of(kC1)},
    {any_of(kBad | kAccented | kBox | kSymbol), any_of(kBad)},
    {any_of(kLatin), any_of(kLowerCommon | kUpperCommon), any_of(kBad)},
    {any_of(kBad), any_of(kAccented | kBox | kSymbol)},
    {any_of(kLowerAccented | kLowerCommon | kBox | kEndPunctuation | kCurrency | kNumeric),
     any_of(kUpperAccented)},
    {any_of(kBox | kEndPunctuation | kCurrency | kNumeric), any_of(kLowerAccented)},
    {any_of(kLowerAccented | kBox | kEndPunctuation), any_of(kCurrency)},
    {any_of(kSpace), any_of(kUpperAccented), any_of(kCurrency)},
    {any_of(kUpperAccented | kBox), any_of(kNumeric | kLaw)},
    {any_of(kAccented | kBox | kCurrency | kEndPunctuation), any_of(kStartPunctuation),
     any_of(kNumeric)},
    {any_of(kAccented | kCurrency | kNumeric | kBox | kLaw), any_of(kEndPunctuation),
     any_of(kStartPunctuation)},
    {any_of(kCurrency | kNumeric | kBox), any_of(kStartPunctuation)},
    {any_of(kLatinSmall), any_of(kUpperAccented), any_of(kStartPunctuation | kCurrency)},
    {any_of(kBox), any_of(kKaomoji)},
    {any_of(kAccented | kSymbol), any_of(kBox)},
    {any_of(kBox), any_of(kEndPunctuation)},
    {any_of(kAccented), any_of(kPunctuation), any_of(kWord)},
    // a ligature without a Latin letter after it; a degree sign after a capital
    {one_of(U"Œœ"), any_of(kNotLatin)},
    {any_of(kUpperAccented), one_of(U"°")},
    // Windows-1252
    {one_of(U"ÂÃÎÐ"), any_of(kPunctuation, U"€œŠš¢£Ÿž\u00a0\u00ad®©°·»–—´")},
    {one_of(U"×"), one_of(U"²³")},
    {one_of(U"ØÙ"), kArabicSecond, one_of(U"ØÙ"), kArabicSecond},
    {one_of(U"à"), one_of(U"²µ¹¼½¾")},
    {one_of(U"Ã"), one_of(U"\u00a0¡")},
    {any_of(kLatinSmall), one_of(U"ÃÂ"), one_of(U" ")},
    {any_of(kLatinSmall), any_of(kSpace), one_of(U"ÃÂ"), one_of(U" ")},
    {any_of(kStart), one_of(U"ÃÂ"), one_of(U" ")},
    {any_of(kLatinSmall | kEndPunctuation, U".,?!"), one_of(U"Â"), any_of(kPunctuation, U" ")},
    // MacRoman
    {one_of(U"√"), one_of(U"±∂†≠®™´≤≥¥µø")},
    {one_of(U"≈"), one_of(U"°¢")},
    {one_of(U"‚"), one_of(U"Ä"), one_of(U"ìîïòôúùû†°¢π")},
    {one_of(U"‚"), one_of(U"âó"), one_of(U"àä°ê")},
    // Windows-1251
    {one_of(U"в"), one_of(U"Ђ")},
    {one_of(U"ВГРС"), kCyrillicMiddle, one_of(U"ВГРС")},
    {one_of(U"Г"), one_of(U"ў"), one_of(U"В"), one_of(U"Ђ"), one_of(U"В"), any_of(kInLine),
     any_of(kLatin, U" ")},
    // Windows-1253, Windows-1257
    {one_of(U"β"), one_of(U"€"), one_of(U"™\u00a0Ά\u00ad®°")},
    {one_of(U"ΒΓΞΟ"), kGreekMiddle, one_of(U"ΒΓΞΟ")},
    {one_of(U"ā"), one_of(U"€")},
};

uint32_t all_categories_of(char32_t c) {
  uint32_t found = categories_of(c);
  const bool small = c >= 'a' && c <= 'z';
  const bool capital = c >= 'A' && c <= 'Z';
  found |= small ? kLatinSmall : capital ? kLatinCapital : kNotLatin;
  found |= (is_space(c) ? kSpace : 0) | (is_word(c) ? kWord : 0) | (c == '\n' ? 0 : kInLine);
  return found;
}

}  // namespace

uint32_t categories_of(char32_t c) {
  const auto* range =
      std::upper_bound(std::begin(kCharacterRanges), std::end(kCharacterRanges), c,
                       [](char32_t value, const CharacterRange& r) { return value < r.first; });
  if (range == std::begin(kCharacterRanges)) {
    return 0;
  }
  --range;
  return c <= range->last ? range->categories : 0;
}

bool looks_like_mojibake(std::u32string_view text) {
  // An extra character in front stands for the start of the text. Its only class is kStart.
  Text characters = U"\U0010ffff";
  characters += text;
  std::vector<uint32_t> categories{kStart};
  for (const char32_t c : text) {
    categories.push_back(all_categories_of(c));
  }
  const auto stands_at = [&](const Sign& sign, size_t at) {
    for (const Place& place : sign.places) {
      if (place.empty()) {
        return true;
      }
      if (at == characters.size() || !place.fits(characters[at], categories[at])) {
        return false;
      }
      ++at;
    }
    return true;
  };
  for (size_t i = 0; i < characters.size(); ++i) {
    for (const Sign& sign : kSigns) {
      if (stands_at(sign, i)) {
        return true;
      }
    }
  }
  return false;
}

}  // namespace ospnext
