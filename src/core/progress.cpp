#include "core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "core/utf8.h"

namespace ospnext {
namespace {

// 75 -> "1:15", 3700 -> "1:01:40".
std::string clock_text(double seconds) {
  const long long whole = std::llround(seconds);
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60,
                  whole % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", whole / 60, whole % 60);
  }
  return text;
}

// The part of a line that the terminal shows without a line break, which could not be rewritten.
std::string cut_to_terminal(const std::string& line) {
  winsize size{};
  const bool is_known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return is_known ? utf8_prefix(line, size.ws_col - 1) : line;
}

}  // namespace

void Progress::begin(Stage stage, int64_t steps) {
  end();
  stage_ = std::move(stage);
  steps_ = steps;
  done_ = 0;
  if (watcher_ != nullptr) {
    watcher_->began(*stage_);
  }
  began_ = shown_ = Clock::now();
  if (in_place_) {
    show("", false);
  }
}

void Progress::step(const std::string& note) {
  ++done_;
  if (watcher_ != nullptr) {
    watcher_->stepped(*stage_);
  }
  const double since_shown = std::chrono::duration<double>(Clock::now() - shown_).count();
  const double interval = in_place_ ? 0.1 : shown_ == began_ ? 1.0 : 5.0;
  if (since_shown >= interval) {
    show(note, false);
  }
}

void Progress::end() {
  if (!stage_) {
    return;
  }
  seconds_.emplace_back(stage_->title(),
                        std::chrono::duration<double>(Clock::now() - began_).count());
  show("", true);
  if (watcher_ != nullptr) {
    watcher_->ended(*stage_, seconds_.back().second);
  }
  stage_.reset();
}

void Progress::show(const std::string& note, bool last) {
  shown_ = Clock::now();
  if (out_ == nullptr) {
    return;
  }
  const double elapsed = std::chrono::duration<double>(shown_ - began_).count();
  char text[160];
  std::string line = stage_->title();
  if (last) {
    std::snprintf(text, sizeof text, ": done in %.1f s", elapsed);
    line += text;
  } else {
    line += ": step " + std::to_string(done_) + (steps_ > 0 ? "/" + std::to_string(steps_) : "");
    if (done_ > 0) {
      const double per_step = elapsed / static_cast<double>(done_);
      std::snprintf(text, sizeof text, ", %.3g s/step", per_step);
      line += text;
      if (steps_ > done_) {
        line += ", " + clock_text(per_step * static_cast<double>(steps_ - done_)) + " left";
      }
    }
    if (!note.empty()) {
      line += ", " + note;
    }
  }
  if (in_place_) {
    *out_ << "\r\033[K" << cut_to_terminal(line) << (last ? "\n" : "") << std::flush;
  } else {
    *out_ << line << "\n" << std::flush;
  }
}

}  // namespace ospnext
