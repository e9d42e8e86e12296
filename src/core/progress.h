// Progress of long work: stage, step, seconds per step, time left, and the duration of each stage.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace ospnext {

// A part of a run whose progress is shown and timed. People read its title; programs tell stages
// apart by `kind`.
struct Stage {
  enum class Kind { kEncodeText, kDenoise, kOther };

  // NOLINTNEXTLINE(google-explicit-constructor): most stages are only a name.
  Stage(std::string name, Kind kind = Kind::kOther, int64_t number = -1)
      : name(std::move(name)), kind(kind), number(number) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  Stage(const char* name) : Stage(std::string(name)) {}

  std::string name;
  Kind kind;
  int64_t number;  // of the video, counted from 1, if the run makes several; else -1

  // "denoise 2", or the name alone without a number.
  std::string title() const { return number < 0 ? name : name + " " + std::to_string(number); }
};

// Observer of the stages of a Progress. The time spent in began() and ended() does not count as
// time of the stage.
class StageWatcher {
 public:
  virtual ~StageWatcher() = default;
  virtual void began(const Stage& /*stage*/) {}
  virtual void stepped(const Stage& /*stage*/) {}  // its time counts
  virtual void ended(const Stage& /*stage*/, double /*seconds*/) {}
};

// Writes the progress of each stage to a stream and measures its duration. On a terminal one line
// is rewritten in place; otherwise a line is written after the first second and then every five
// seconds.
class Progress {
 public:
  // `out` may be null: nothing is written. `watcher` may be null. Both must outlive this object.
  // `in_place` rewrites the current line, for a terminal.
  Progress(std::ostream* out, bool in_place, StageWatcher* watcher = nullptr)
      : out_(out), in_place_(in_place), watcher_(watcher) {}

  // Ends the current stage, if any, and starts `stage` with `steps` steps, 0 if unknown.
  void begin(Stage stage, int64_t steps);
  // Counts one more finished step of the current stage. `note`, for example a loss, is shown at the
  // end of the line.
  void step(const std::string& note = "");
  // Ends the current stage, if any.
  void end();

  // (title, seconds) of the finished stages, in the order in which they ended.
  const std::vector<std::pair<std::string, double>>& stage_seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  void show(const std::string& note, bool last);

  std::ostream* out_;
  bool in_place_;
  StageWatcher* watcher_;
  std::optional<Stage> stage_;
  int64_t steps_ = 0;
  int64_t done_ = 0;
  Clock::time_point began_;
  Clock::time_point shown_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace ospnext
