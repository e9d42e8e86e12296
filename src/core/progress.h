// Progress of long work: stage, step, seconds a step, time left; and the seconds each stage took.
#pragma once

#include <chrono>
#include <cstdint>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

namespace ospnext {

// Is told of the stages of a Progress, from outside of what their seconds count.
class StageWatcher {
 public:
  virtual ~StageWatcher() = default;
  virtual void began(const std::string& /*stage*/) {}
  virtual void stepped(const std::string& /*stage*/) {}  // inside of what counts
  virtual void ended(const std::string& /*stage*/, double /*seconds*/) {}
};

// Writes one line a stage to a stream: rewritten in place on a terminal, else a line after the first second and then
// every five. A null stream keeps silent but still measures.
class Progress {
 public:
  // `out` and `watcher` outlive the object, or are null; `in_place` rewrites the current line (a terminal).
  Progress(std::ostream* out, bool in_place, StageWatcher* watcher = nullptr)
      : out_(out), in_place_(in_place), watcher_(watcher) {}

  // Ends the current stage, if any, and starts `stage` of `steps` steps (0: unknown).
  void begin(std::string stage, int64_t steps);
  // One more step of the current stage is done; `note` (a loss, say) is shown behind it.
  void step(const std::string& note = "");
  // Ends the current stage.
  void end();

  // (stage, seconds) in the order of their ends.
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
