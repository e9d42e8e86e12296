// Captions read back to attributes.
#include <gtest/gtest.h>

#include "core/error.h"
#include "data/tiny_world/captions.h"

namespace ospnext {
namespace {

TEST(CaptionReading, FindsTheAttributesOfEveryForm) {
  for (const double two : {0.0, 1.0}) {
    for (uint64_t i = 0; i < 200; ++i) {
      const ClipSpec clip = sample_clip(3, i, ClipSplit::kHeldOut, {.two_objects = two});
      for (int64_t form = 0; form < num_caption_forms(clip.objects.size()); ++form) {
        const std::string text = caption(clip, form);
        const ClipSpec read = clip_of_caption(text);
        ASSERT_EQ(read.objects.size(), clip.objects.size()) << text;
        EXPECT_EQ(read.background, clip.background) << text;
        EXPECT_EQ(read.pattern, clip.pattern) << text;
        for (size_t j = 0; j < clip.objects.size(); ++j) {
          EXPECT_EQ(read.objects[j].shape, clip.objects[j].shape) << text;
          EXPECT_EQ(read.objects[j].colour, clip.objects[j].colour) << text;
          EXPECT_EQ(read.objects[j].size, clip.objects[j].size) << text;
          EXPECT_EQ(read.objects[j].motion, clip.objects[j].motion) << text;
        }
      }
    }
  }
}

TEST(CaptionReading, RefusesOtherSentences) {
  for (const char* text : {"", "a heron takes off from a misty lake", "a red circle moving left",
                           "a small red red circle moving left on a plain gray background",
                           "a small red circle and a ring moving left on a plain gray background",
                           "a small red circle moving on a plain gray background\n\x01"}) {
    try {
      clip_of_caption(text);
      ADD_FAILURE() << text;
    } catch (const InputError& error) {
      const std::string message = error.what();
      EXPECT_TRUE(message.starts_with("the caption \"")) << message;
      EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    }
  }
}

}  // namespace
}  // namespace ospnext
