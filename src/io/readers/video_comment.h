// Reads the comment in a video or image file. `generate` stores its configuration there.
#pragma once

#include <filesystem>
#include <string>

namespace ospnext {

// Returns the comment of an .mp4 or .webm (tag "comment"), .gif (comment extension), .webp (XMP
// description) or .png (text "Comment"), or "" if there is none. The content decides the format.
// Reads only the parts on the way to the comment. Throws InputError for a file that cannot be read,
// has another format, or is damaged in these parts.
std::string read_video_comment(const std::filesystem::path& file);

// An XMP packet with `text` as its description. Source: Adobe, XMP Specification Part 1.
std::string comment_to_xmp(const std::string& text);

}  // namespace ospnext
