// A short clip for tests of video files, and the names of all formats.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/torch/torch.h"
#include "io/video_writers.h"
#include "support/temporary_folder.h"

namespace ospnext {

inline constexpr int64_t kFrames = 5, kHeight = 48, kWidth = 64;

// A smooth moving picture that uses all three channels, [n, H, W, 3] uint8.
inline at::Tensor moving_picture() {
  const at::Tensor t = torch::arange(kFrames).view({-1, 1, 1});
  const at::Tensor row = torch::arange(kHeight).view({1, -1, 1});
  const at::Tensor column = torch::arange(kWidth).view({1, 1, -1});
  const at::Tensor red = 128 + 100 * torch::sin((column + 3 * t) * 0.1) + 0 * row;
  const at::Tensor green = 128 + 100 * torch::sin((row - 2 * t) * 0.12) + 0 * column;
  const at::Tensor blue = 60 + 2.0 * column + 10.0 * t + 0 * row;
  return torch::stack({red, green, blue}, -1).clamp(0, 255).to(torch::kUInt8);
}

inline void write_video(const std::filesystem::path& file, const at::Tensor& frames,
                        double fps = 16, const std::string& comment = "") {
  const VideoFormat format{frames.size(2), frames.size(1), fps, comment};
  const auto writer = open_video(file, format);
  writer->write(frames.slice(0, 0, 1));  // the decoder also returns one frame first, then several
  writer->write(frames.slice(0, 1));
  writer->finish();
  writer->commit();
}

// A name of every format that this program writes: "clip.mp4", ..., "clip_%03d.png".
inline std::vector<std::string> video_names(const std::string& stem = "clip") {
  std::vector<std::string> names;
  for (const VideoContainer& container : video_containers()) {
    const std::string extension = container.extension;
    if (container.open != nullptr) {
      names.push_back(stem + (extension == ".png" ? "_%03d" : "") + extension);
    }
  }
  return names;
}

}  // namespace ospnext
