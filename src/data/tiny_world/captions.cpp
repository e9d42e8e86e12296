// Captions of procedural clips: the sentence forms.
#include "data/tiny_world/captions.h"

#include <array>
#include <cctype>

namespace ospnext {
namespace {

// The words and phrases that describe one object in a sentence.
struct Words {
  explicit Words(const ObjectSpec& object)
      : shape(word(object.shape)),
        colour(word(object.colour)),
        size(word(object.size)),
        doing(word(object.motion)),
        does(verb(object.motion)),
        noun(with_article(size + " " + colour + " " + shape)) {}

  static std::string with_article(const std::string& phrase) {
    const bool vowel = std::string("aeiou").find(phrase.front()) != std::string::npos;
    return (vowel ? "an " : "a ") + phrase;
  }

  std::string shape, colour, size, doing, does;
  std::string noun;  // "a small red circle"
};

constexpr int64_t kOneObjectForms = 8;
constexpr int64_t kTwoObjectForms = 5;

std::string background_phrase(const ClipSpec& clip) {
  return "a " + std::string(word(clip.pattern)) + " " + std::string(word(clip.background)) +
         " background";
}

std::string one_object_caption(const ClipSpec& clip, int64_t form) {
  const Words it(clip.objects[0]);
  const std::string background = background_phrase(clip);
  switch (form) {
    case 0:
      return it.noun + " " + it.doing + " on " + background;
    case 1:
      return "on " + background + ", " + it.noun + " is " + it.doing;
    case 2:
      return Words::with_article(it.colour + " " + it.shape) + ", " + it.size + " in size, " +
             it.does + " on " + background;
    case 3:
      return "a video of " + it.noun + " that " + it.does + " on " + background;
    case 4:
      return background + " with " + it.noun + " " + it.doing + " on it";
    case 5:
      return it.noun + " " + it.does + ". the background is " + std::string(word(clip.pattern)) +
             " and " + std::string(word(clip.background));
    case 6:
      return background + ". a " + it.size + " " + it.shape + ", " + it.colour + " in color, is " +
             it.doing;
    default:
      return "the " + it.shape + " is " + it.colour + " and " + it.size + ". it is " + it.doing +
             " on " + background;
  }
}

std::string two_object_caption(const ClipSpec& clip, int64_t form) {
  const Words one(clip.objects[0]);
  const Words two(clip.objects[1]);
  const std::string background = background_phrase(clip);
  switch (form) {
    case 0:
      return one.noun + " " + one.doing + " and " + two.noun + " " + two.doing + " on " +
             background;
    case 1:
      return "on " + background + ", " + one.noun + " is " + one.doing + " and " + two.noun +
             " is " + two.doing;
    case 2:
      return one.noun + " " + one.does + " while " + two.noun + " " + two.does + " on " +
             background;
    case 3:
      return "a video of two objects on " + background + ": " + one.noun + " " + one.doing + ", " +
             two.noun + " " + two.doing;
    default:
      return background + ". " + one.noun + " is " + one.doing + ". " + two.noun + " is " +
             two.doing;
  }
}

// Starts each sentence with a capital letter and ends the text with a full stop.
std::string punctuated(std::string text) {
  bool starts = true;
  for (char& c : text) {
    if (starts && c != ' ') {
      c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      starts = false;
    }
    starts = starts || c == '.';
  }
  return text + ".";
}

}  // namespace

int64_t num_caption_forms(size_t num_objects) {
  return 2 * (num_objects == 1 ? kOneObjectForms : kTwoObjectForms);
}

std::string caption(const ClipSpec& clip, int64_t form) {
  TORCH_CHECK(clip.objects.size() == 1 || clip.objects.size() == 2,
              "a caption needs one or two objects, got ", clip.objects.size());
  const int64_t forms = num_caption_forms(clip.objects.size());
  TORCH_CHECK(form >= 0 && form < forms, "caption form: expected 0 to ", forms - 1, ", got ", form);
  const int64_t sentence = form % (forms / 2);
  const std::string text = clip.objects.size() == 1 ? one_object_caption(clip, sentence)
                                                    : two_object_caption(clip, sentence);
  return form < forms / 2 ? text : punctuated(text);
}

std::vector<std::string> caption_corpus(uint64_t seed, int64_t count) {
  ClipOptions options;
  options.two_objects = 0.4;
  std::vector<std::string> corpus;
  for (int64_t i = 0; i < count; ++i) {
    const ClipSpec clip = sample_clip(seed, static_cast<uint64_t>(i), ClipSplit::kTrain, options);
    corpus.push_back(caption(clip, i % num_caption_forms(clip.objects.size())));
  }
  return corpus;
}

}  // namespace ospnext
