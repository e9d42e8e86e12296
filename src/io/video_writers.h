// The writers used by open_video(), and what each format requires.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "io/video.h"

namespace ospnext {

// A format: the ending of its names, its requirements and its writer.
struct VideoContainer {
  const char* extension;  // in lower case
  const char* encoder;    // FFmpeg's encoder; "" if none is needed
  bool even_sides;        // chroma has half the resolution
  int64_t largest_side;
  double fastest;  // frames per second
  std::unique_ptr<VideoWriter> (*open)(const std::filesystem::path&, const VideoFormat&);
};

inline constexpr int64_t kAnySide = 1 << 24;
inline constexpr double kAnyRate = 1e6;

// All formats, in the order in which messages list them. Without FFmpeg, those that need it are
// known but have no writer.
const std::vector<VideoContainer>& video_containers();
// Those that FFmpeg muxes.
std::vector<VideoContainer> muxed_containers();

std::unique_ptr<VideoWriter> open_y4m(const std::filesystem::path& output,
                                      const VideoFormat& format);
std::unique_ptr<VideoWriter> open_png_frames(const std::filesystem::path& pattern,
                                             const VideoFormat& format);

#ifdef OSPNEXT_FFMPEG
std::unique_ptr<VideoWriter> open_webp(const std::filesystem::path& output,
                                       const VideoFormat& format);
std::unique_ptr<VideoWriter> open_gif(const std::filesystem::path& output,
                                      const VideoFormat& format);

// Throws InputError, beginning with `what`, if this FFmpeg lacks the encoder `name`.
void check_encoder(const std::string& name, const std::string& what);
#endif

// Throws c10::Error unless `frames` are [n, H, W, 3] uint8 of the format's size. Returns them on
// the CPU, contiguous.
at::Tensor checked_frames(const at::Tensor& frames, const VideoFormat& format);

}  // namespace ospnext
