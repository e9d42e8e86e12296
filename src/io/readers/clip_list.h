// Reads lists of video files and their captions: lines of JSON, a JSON array, or CSV.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace ospnext {

struct ListedClip {
  std::string file;     // as the list names it
  std::string caption;  // UTF-8, not empty, without blanks around it
  std::string place;    // "FILE: line 7", for messages
};

enum class ClipListFormat { kJsonLines, kJson, kCsv };

// Parses the text of a list. An entry has a file (key or column file_name, video, video_path, path
// or file) and a caption (caption, text, prompt or cap); other keys are skipped. CSV is that of
// RFC 4180, with a first line of names. Throws InputError, beginning with `origin` and the line,
// for an entry without one of both, for text that is not UTF-8, and for a list without entries. The
// names are those of diffusers, finetrainers, DiffSynth, musubi-tuner and OSP-Next.
std::vector<ListedClip> parse_clip_list(std::string_view text, ClipListFormat format,
                                        const std::string& origin);

// Reads such a file by the ending of its name, .jsonl, .json or .csv. Throws InputError also for a
// file that cannot be read.
std::vector<ListedClip> read_clip_list(const std::filesystem::path& file);

// The text of a file of at most `most` bytes without blanks at both ends and without a byte-order
// mark. Throws InputError if it cannot be read, is larger, or is not UTF-8.
std::string read_caption_text(const std::filesystem::path& file, size_t most);

}  // namespace ospnext
