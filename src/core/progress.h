// Progress of long work: stage, step, seconds per step, time left, and the duration of each stage.
#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace ospnext {

// Observer of the stages of a Progress. The time spent in began() and ended() does not count as
// time of the stage.
class StageWatcher {
 public:
  virtual ~StageWatcher() = default;
  virtual void began(const std::string& /*stage*/) {}
  virtual void stepped(const std::string& /*stage*/) {}  // its time counts
  virtual void ended(const std::string& /*stage*/, double /*seconds*/) {}
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
  void begin(std::string stage, int64_t steps);
  // Counts one more finished step of the current stage. `note`, for example a loss, is shown at the
  // end of the line.
  void step(const std::string& note = "");
  // Ends the current stage, if any.
  void end();

  // (stage, seconds) of the finished stages, in the order in which they ended.
  const std::vector<std::pair<std::string, double>>& stage_seconds() const { return seconds_; }

 private:
  using Clock = std::chrono::steady_clock;
  void show(const std::string& note, bool last);

  std::ostream* out_;
  bool in_place_;
  StageWatcher* watcher_;
  std::string stage_;
  int64_t steps_ = 0;
  int64_t done_ = 0;
  Clock::time_point began_;
  Clock::time_point shown_;
  std::vector<std::pair<std::string, double>> seconds_;
};

}  // namespace ospnext
