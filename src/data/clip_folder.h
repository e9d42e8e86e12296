// Folders of videos and their captions, as people keep them for training.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace ospnext {

struct CaptionedVideo {
  std::string name;            // below the folder, with "/" between parts
  std::filesystem::path file;  // a video, or a folder of PNG images
  std::string caption;         // UTF-8, without blanks around it, not empty
};

// The videos of a clip folder, in a fixed order. `folder_or_list` is
//   a list     .jsonl, .json or .csv (io/readers/clip_list.h): in the order of the list, with files
//              below the folder of the list
//   a folder   that holds metadata.jsonl, metadata.json or metadata.csv: that list
//   any other  NAME.txt has the caption of NAME.mp4 (or another video) or of the folder NAME of PNG
//              images; ordered by the bytes of the names
// Opens no video. Throws InputError, naming file and line, for a video without a caption or without
// a file, a caption that is empty or not UTF-8, a file that leaves the folder or is listed twice,
// and for a folder without videos.
std::vector<CaptionedVideo> list_clip_folder(const std::filesystem::path& folder_or_list);

// The videos of a folder that need no captions: files and folders of PNG images, ordered by their
// names, numbers in them by value (2.mp4 before 10.mp4). A video, or a folder of PNG images, is
// itself the only one. Opens no video. Throws InputError for what cannot be read, and for a folder
// without videos.
std::vector<std::filesystem::path> list_videos(const std::filesystem::path& folder_or_video);

}  // namespace ospnext
