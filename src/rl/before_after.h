// Clips of the same prompts and noise before and after a training, side by side.
#pragma once

#include <filesystem>
#include <utility>
#include <vector>

namespace ospnext {

// Writes one video: of each pair of files the first on the left and the second on the right, pair
// after pair. All have the same size. A file that cannot be read or written is no reason to end a
// training: a warning says so.
void write_before_after(
    const std::vector<std::pair<std::filesystem::path, std::filesystem::path>>& pairs,
    const std::filesystem::path& output, double fps);

}  // namespace ospnext
