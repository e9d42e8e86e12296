#include "server/worker/job_files.h"

#include <algorithm>
#include <filesystem>

#include "core/log.h"
#include "io/image.h"
#include "io/output_file.h"
#include "io/video.h"

namespace ospnext {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kSheetPictures = 16;
constexpr int64_t kSheetColumns = 4;
constexpr int64_t kSheetSide = 160;  // pixels; longest side of a picture

// Whether frame `index` of `count` is on the sheet.
bool is_on_sheet(int64_t index, int64_t count) {
  const int64_t pictures = std::min(count, kSheetPictures);
  return index == 0 || index * pictures / count != (index - 1) * pictures / count;
}

// Pictures [h, w, 3] -> [rows * h, columns * w, 3], row after row; places left over are black.
at::Tensor sheet_of(std::vector<at::Tensor> pictures) {
  const int64_t columns = std::min<int64_t>(std::ssize(pictures), kSheetColumns);
  while (std::ssize(pictures) % columns != 0) {
    pictures.push_back(at::zeros_like(pictures.front()));
  }
  std::vector<at::Tensor> rows;
  for (auto first = pictures.begin(); first != pictures.end(); first += columns) {
    rows.push_back(torch::cat(std::vector<at::Tensor>(first, first + columns), 1));
  }
  return torch::cat(rows, 0).contiguous();
}

// The files of an attempt, whose names begin with its number.
std::vector<fs::path> files_of(const JobStore& store, const Job& job) {
  const std::string number = std::to_string(job.attempt);
  std::vector<fs::path> files;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(store.folder_of(job.id), ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(number + ".") || name.starts_with(number + "-")) {
      files.push_back(entry.path());
    }
  }
  return files;
}

}  // namespace

JobFiles::JobFiles(const JobStore& store, const Job& job, const GenerateConfig& config,
                   const std::vector<VideoSample>& samples, at::Device device,
                   const Progress& progress, int64_t preview, Watcher watcher)
    : store_(store),
      job_(job),
      files_(config, samples, device, progress, nullptr, job.batch_size),
      num_frames_(config.generation.num_frames),
      num_steps_(config.generation.steps),
      preview_(preview),
      watcher_(std::move(watcher)) {}

bool JobFiles::wants_preview(size_t, int64_t done) {
  return preview_ > 0 && done % preview_ == 0 && done < num_steps_;
}

void JobFiles::preview(size_t, int64_t done, const at::Tensor& frame) {
  try {
    write_text_file(store_.file_of(job_, "-preview.png"),
                    encode_png(small_picture(frame, kPreviewSide)));
    watcher_.on_preview(done);
  } catch (const std::runtime_error& error) {  // not a reason to lose the video
    warn(std::string("no preview: ") + error.what());
  }
}

void JobFiles::frames(size_t sample, const at::Tensor& frames) {
  files_.frames(sample, frames);
  for (int64_t i = 0; i < frames.size(1); ++i, ++done_) {
    const at::Tensor frame = frames.narrow(1, i, 1);  // [3, 1, H, W]
    if (done_ == num_frames_ / 2) {
      thumbnail_ = small_picture(frame, kPreviewSide);
    }
    if (is_on_sheet(done_, num_frames_)) {
      pictures_.push_back(small_picture(frame, kSheetSide));
    }
  }
  watcher_.on_frames(done_);
}

void JobFiles::finished(size_t sample) {
  write_text_file(store_.file_of(job_, "-thumbnail.png"), encode_png(thumbnail_));
  write_text_file(store_.file_of(job_, "-spritesheet.png"), encode_png(sheet_of(pictures_)));
  files_.finished(sample);
}

void remove_files(const JobStore& store, const Job& job) {
  std::error_code ignored;
  for (const fs::path& file : files_of(store, job)) {
    fs::remove(file, ignored);
  }
  fs::remove(store.folder_of(job.id), ignored);  // refused while another attempt has files there
}

int64_t bytes_of_files(const JobStore& store, const Job& job) {
  int64_t bytes = 0;
  for (const fs::path& file : files_of(store, job)) {
    std::error_code error;
    const auto size = fs::file_size(file, error);
    bytes += error ? 0 : static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace ospnext
