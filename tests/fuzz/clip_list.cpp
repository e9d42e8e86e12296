// Input: a line with the format, jsonl, json or csv, then a list of clips in it.
#include "io/readers/clip_list.h"

#include "fuzz/fuzz_entry.h"

FUZZ_ENTRY(clip_list) {
  const std::string name = ospnext::fuzz::take_line(input);
  const auto format = name == "csv"    ? ospnext::ClipListFormat::kCsv
                      : name == "json" ? ospnext::ClipListFormat::kJson
                                       : ospnext::ClipListFormat::kJsonLines;
  for (const ospnext::ListedClip& clip : ospnext::parse_clip_list(input, format, "input")) {
    ospnext::fuzz::require(!clip.file.empty() && !clip.caption.empty());
  }
}
