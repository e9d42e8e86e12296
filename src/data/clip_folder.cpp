#include "data/clip_folder.h"

#include <algorithm>
#include <array>
#include <map>

#include "core/error.h"
#include "core/extension.h"
#include "core/utf8.h"
#include "io/readers/clip_list.h"
#include "io/readers/tensor_file.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostCaptionBytes = 64 << 10;

bool names_a_video(const fs::path& file) {
  constexpr std::array kEndings{".mp4", ".mov", ".mkv", ".webm", ".m4v", ".avi",
                                ".gif", ".y4m", ".mpg", ".mpeg", ".ts"};
  return std::find(kEndings.begin(), kEndings.end(), extension_of(file)) != kEndings.end();
}

bool holds_images(const fs::path& folder) {
  std::error_code error;
  const fs::directory_iterator entries(folder, error);
  return !error && std::any_of(begin(entries), end(entries), [](const fs::directory_entry& entry) {
    return extension_of(entry.path()) == ".png";
  });
}

// Throws InputError unless `name` stays below its folder, whatever links are there.
fs::path inner_path(const ListedClip& clip, const fs::path& folder) {
  fs::path path = fs::path(clip.file).lexically_normal();
  if (path.is_absolute()) {
    path = path.lexically_relative(fs::absolute(folder).lexically_normal());
  }
  if (path.empty() || *path.begin() == ".." || path == ".") {
    throw InputError(clip.place + ": found " + quoted(clip.file) + ", expected a file below " +
                     (folder.empty() ? "." : folder.string()));
  }
  return path;
}

std::vector<CaptionedVideo> listed_videos(const fs::path& list) {
  const fs::path folder = list.parent_path();
  std::vector<CaptionedVideo> videos;
  std::map<std::string, std::string> places;  // by name
  for (const ListedClip& clip : read_clip_list(list)) {
    const fs::path path = inner_path(clip, folder);
    const fs::path file = folder / path;
    std::error_code error;
    if (!fs::is_regular_file(file, error) && !fs::is_directory(file, error)) {
      throw InputError(clip.place + ": there is no file " + file.string());
    }
    const auto [earlier, is_new] = places.emplace(path.generic_string(), clip.place);
    if (!is_new) {
      throw InputError(clip.place + ": " + quoted(clip.file) + " is listed twice, also in " +
                       earlier->second);
    }
    videos.push_back({.name = path.generic_string(), .file = file, .caption = clip.caption});
  }
  return videos;
}

std::vector<CaptionedVideo> videos_beside_captions(const fs::path& folder) {
  std::vector<CaptionedVideo> videos;
  std::map<fs::path, fs::path> captions;  // the video of each file of text
  for (const auto& entry : fs::directory_iterator(folder)) {
    const fs::path& file = entry.path();
    const bool is_folder = entry.is_directory();
    const std::string name = file.filename().string();
    if (name.starts_with(".") || !(is_folder ? holds_images(file) : names_a_video(file))) {
      continue;
    }
    if (!is_utf8(name)) {
      throw InputError(folder.string() + ": found a name that is not UTF-8");
    }
    const fs::path text =
        is_folder ? folder / (name + ".txt") : fs::path(file).replace_extension(".txt");
    const auto [earlier, is_new] = captions.emplace(text, file);
    if (!is_new) {
      throw InputError(file.string() + ": has the caption file of " + earlier->second.string());
    }
    if (!fs::is_regular_file(text)) {
      throw InputError(file.string() + ": found no caption, expected it in " + text.string());
    }
    videos.push_back(
        {.name = name, .file = file, .caption = read_caption_text(text, kMostCaptionBytes)});
    if (videos.back().caption.empty()) {
      throw InputError(text.string() + ": the caption is empty");
    }
  }
  std::sort(videos.begin(), videos.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  return videos;
}

// Whether a name stands before another, digits read as numbers.
bool is_before(const std::string& one, const std::string& other) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto digits = [&](const std::string& name, size_t& at) {
    const size_t begin = at;
    at = static_cast<size_t>(
        std::find_if_not(name.begin() + static_cast<ptrdiff_t>(at), name.end(), is_digit) -
        name.begin());
    const size_t first = std::min(name.find_first_not_of('0', begin), at);
    return std::pair(at - first, name.substr(first, at - first));
  };
  size_t i = 0, k = 0;
  while (i < one.size() && k < other.size()) {
    if (is_digit(one[i]) && is_digit(other[k])) {
      const auto a = digits(one, i), b = digits(other, k);
      if (a != b) {
        return a < b;
      }
    } else if (one[i] != other[k]) {
      return one[i] < other[k];
    } else {
      ++i, ++k;
    }
  }
  return std::pair(one.size() - i, one) < std::pair(other.size() - k, other);
}

}  // namespace

std::vector<fs::path> list_videos(const fs::path& folder_or_video) {
  std::error_code error;
  if (!fs::is_directory(folder_or_video, error)) {
    if (!fs::is_regular_file(folder_or_video, error)) {
      throw InputError(folder_or_video.string() + ": there is no such file or folder");
    }
    return {folder_or_video};
  }
  std::vector<fs::path> videos;
  for (const auto& entry : fs::directory_iterator(folder_or_video)) {
    const fs::path& file = entry.path();
    const bool is_hidden = file.filename().string().starts_with(".");
    if (!is_hidden && (entry.is_directory() ? holds_images(file) : names_a_video(file))) {
      videos.push_back(file);
    }
  }
  if (videos.empty() && holds_images(folder_or_video)) {
    return {folder_or_video};
  }
  if (videos.empty()) {
    throw InputError(folder_or_video.string() +
                     ": found no videos, expected files such as NAME.mp4 or folders of PNG images");
  }
  std::ranges::sort(videos, is_before,
                    [](const fs::path& file) { return file.filename().string(); });
  return videos;
}

std::vector<CaptionedVideo> list_clip_folder(const fs::path& folder_or_list) {
  std::error_code error;
  if (!fs::is_directory(folder_or_list, error)) {
    return listed_videos(folder_or_list);
  }
  std::vector<fs::path> lists;
  for (const char* name : {"metadata.jsonl", "metadata.json", "metadata.csv"}) {
    if (fs::exists(folder_or_list / name, error)) {
      lists.push_back(folder_or_list / name);
    }
  }
  if (lists.size() > 1) {
    throw InputError(folder_or_list.string() + ": found both " + lists[0].filename().string() +
                     " and " + lists[1].filename().string() + ": name the one that counts");
  }
  auto videos = lists.empty() ? videos_beside_captions(folder_or_list) : listed_videos(lists[0]);
  if (videos.empty()) {
    throw InputError(folder_or_list.string() +
                     ": found no videos, expected NAME.mp4 with NAME.txt, or metadata.jsonl");
  }
  return videos;
}

}  // namespace ospnext
