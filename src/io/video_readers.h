// The readers used by open_video_reader().
#pragma once

#include <filesystem>
#include <memory>

#include "io/video_reader.h"

namespace ospnext {

std::unique_ptr<VideoReader> read_y4m(const std::filesystem::path& file);
std::unique_ptr<VideoReader> read_png_folder(const std::filesystem::path& folder, double fps);
#ifdef OSPNEXT_FFMPEG
std::unique_ptr<VideoReader> read_with_ffmpeg(const std::filesystem::path& file);
#endif

}  // namespace ospnext
