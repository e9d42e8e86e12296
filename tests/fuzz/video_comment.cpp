// Input: an .mp4, .webm, .gif, .webp or .png file with a comment.
#include "io/readers/video_comment.h"

#include "fuzz/fuzz_entry.h"

FUZZ_ENTRY(video_comment) {
  const ospnext::fuzz::MemoryFile file(input);
  ospnext::fuzz::require(ospnext::read_video_comment(file.path()).size() <= input.size());
}
