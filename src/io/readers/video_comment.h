// The comment inside a video or image file, where `generate` keeps what made it.
#pragma once

#include <filesystem>
#include <string>

namespace ospnext {

// The comment of an .mp4 or .webm (tag "comment"), .gif (comment extension), .webp (XMP description)
// or .png (text "Comment"), told apart by their content; "" when there is none. Reads only what leads
// there. Throws InputError for a file that cannot be read, is of another kind or is damaged on the way.
std::string read_video_comment(const std::filesystem::path& file);

// An XMP packet with `text` as its description. Source: Adobe, XMP Specification Part 1.
std::string comment_to_xmp(const std::string& text);

}  // namespace ospnext
