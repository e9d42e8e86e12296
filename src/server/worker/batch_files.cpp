#include "server/worker/batch_files.h"

#include <algorithm>
#include <filesystem>

namespace ospnext {

BatchFiles::BatchFiles(const std::vector<Job>& jobs, BatchOutput output, const Progress& progress,
                       Watcher watcher)
    : jobs_(jobs),
      output_(std::move(output)),
      progress_(progress),
      watcher_(std::move(watcher)),
      parts_(jobs.size()) {}

// Lets a job write, unless it has failed.
void BatchFiles::guarded(size_t job, const std::function<void(Part& part)>& write) {
  Part& part = parts_[job];
  if (part.failure) {
    return;
  }
  try {
    write(part);
  } catch (const std::exception&) {
    part.failure.emplace(current_failure());
    part.files.reset();
    if (std::ranges::all_of(parts_, [](const Part& one) { return one.failure.has_value(); })) {
      watcher_.on_nothing_left();
    }
  }
}

void BatchFiles::open(const std::vector<GenerateConfig>& configs) {
  for (size_t i = 0; i < jobs_.size(); ++i) {
    guarded(i, [&](Part& part) {
      const JobStore& store = output_.store;
      std::filesystem::create_directories(store.folder_of(jobs_[i].id));
      part.config = configs[i];
      part.config.output = store.file_of(jobs_[i], output_.ending).string();
      part.samples = part.config.samples();
      part.files.emplace(
          store, jobs_[i], part.config, part.samples, output_.device, progress_, output_.preview,
          JobFiles::Watcher{
              .on_frames = [this, i](int64_t frames) { watcher_.on_frames(i, frames); },
              .on_preview = [this, i](int64_t step) { watcher_.on_preview(i, step); }});
    });
  }
}

void BatchFiles::close() {
  for (Part& part : parts_) {
    part.files.reset();
  }
}

bool BatchFiles::wants_preview(size_t sample, int64_t done) {
  auto& files = parts_[sample].files;
  return files && files->wants_preview(0, done);
}

void BatchFiles::preview(size_t sample, int64_t done, const at::Tensor& frame) {
  guarded(sample, [&](Part& part) { part.files->preview(0, done, frame); });
}

void BatchFiles::frames(size_t sample, const at::Tensor& frames) {
  guarded(sample, [&](Part& part) { part.files->frames(0, frames); });
}

void BatchFiles::finished(size_t sample) {
  guarded(sample, [&](Part& part) { part.files->finished(0); });
}

}  // namespace ospnext
