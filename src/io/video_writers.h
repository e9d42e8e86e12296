// The writers used by open_video(), one for each format.
#pragma once

#include <filesystem>
#include <memory>

#include "io/video.h"

namespace ospnext {

std::unique_ptr<VideoWriter> open_y4m(const std::filesystem::path& output,
                                      const VideoFormat& format);
std::unique_ptr<VideoWriter> open_png_frames(const std::filesystem::path& pattern,
                                             const VideoFormat& format);

#ifdef OSPNEXT_FFMPEG
// .mp4 or .webm, by the extension of `output`.
std::unique_ptr<VideoWriter> open_muxed_video(const std::filesystem::path& output,
                                              const VideoFormat& format);
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
