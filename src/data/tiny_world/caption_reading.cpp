// Captions of procedural clips: from the sentence to the attributes.
#include <algorithm>
#include <cctype>
#include <utility>

#include "core/error.h"
#include "core/utf8.h"
#include "data/tiny_world/captions.h"

namespace ospnext {
namespace {

// " a small red circle moves left ": lower case, with one space around each word.
std::string spaced_words(const std::string& text) {
  std::string words = " ";
  for (const char c : text) {
    const auto letter = static_cast<unsigned char>(c);
    if (std::isalpha(letter) != 0) {
      words += static_cast<char>(std::tolower(letter));
    } else if (words.back() != ' ') {
      words += ' ';
    }
  }
  return words.back() == ' ' ? words : words + ' ';
}

// The values of an attribute that the words name, in their order. `phrases` gives the words of a
// value.
template <class Value, size_t forms>
std::vector<Value> named(const std::string& words, size_t values,
                         const std::array<std::string_view (*)(Value), forms>& phrases) {
  std::vector<std::pair<size_t, Value>> found;  // place and value
  for (size_t i = 0; i < values; ++i) {
    for (const auto& phrase_of : phrases) {
      const std::string phrase =
          std::string(" ").append(phrase_of(static_cast<Value>(i))).append(" ");
      for (size_t at = words.find(phrase); at != words.npos; at = words.find(phrase, at + 1)) {
        found.emplace_back(at, static_cast<Value>(i));
      }
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<Value> in_order;
  for (const auto& [at, value] : found) {
    in_order.push_back(value);
  }
  return in_order;
}

template <class Value>
std::vector<Value> named(const std::string& words, size_t values) {
  return named<Value, 1>(words, values, {word});
}

}  // namespace

ClipSpec clip_of_caption(const std::string& text) {
  const std::string words = spaced_words(text);
  const auto shapes = named<ObjectShape>(words, kNumShapes);
  const auto colours = named<ObjectColour>(words, kNumColours);
  const auto sizes = named<ObjectSize>(words, kNumSizes);
  const auto motions = named<ObjectMotion, 2>(words, kNumMotions, {word, verb});
  const auto backgrounds = named<BackgroundColour>(words, kNumBackgroundColours);
  const auto patterns = named<BackgroundPattern>(words, kNumPatterns);
  const size_t objects = shapes.size();
  if (objects < 1 || objects > 2 || colours.size() != objects || sizes.size() != objects ||
      motions.size() != objects || backgrounds.size() != 1 || patterns.size() != 1) {
    constexpr size_t kShownBytes = 100;
    std::string shown = utf8_prefix(text, kShownBytes);
    std::ranges::replace_if(
        shown, [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
    const auto count = [](size_t number, const char* what) {
      return std::to_string(number) + " " + what;
    };
    throw InputError(
        "the caption \"" + shown + "\": found " + count(sizes.size(), "sizes, ") +
        count(colours.size(), "colours, ") + count(objects, "shapes, ") +
        count(motions.size(), "motions, ") + count(backgrounds.size(), "backgrounds and ") +
        count(patterns.size(), "patterns") + ", expected one of each, or two of the first four");
  }
  ClipSpec clip;
  clip.background = backgrounds[0];
  clip.pattern = patterns[0];
  for (size_t i = 0; i < objects; ++i) {
    clip.objects.push_back(
        {.shape = shapes[i], .colour = colours[i], .size = sizes[i], .motion = motions[i]});
  }
  return clip;
}

}  // namespace ospnext
