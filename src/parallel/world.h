// All processes of a run, from the first to arrive to the last to end, and how each watches over the others.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/cancel.h"
#include "parallel/process_group.h"
#include "parallel/process_place.h"

namespace ospnext {

struct WorldOptions {
  Transport transport = Transport::kGloo;
  std::chrono::milliseconds timeout =
      std::chrono::seconds(50);  // for others to arrive, or to come to a collective
  std::string fingerprint =
      {};  // what must be the same in all processes: version and configuration
  const CancellationToken* cancel = nullptr;  // ends waiting, if given
  bool engine_for_one = false;  // whether one process alone exchanges with itself, for trying
};

// Every rank tells the others once a second where it is. One that falls silent for some seconds is taken for
// dead; one that does not come to a collective in time, for hanging. What throws names it and its place.
class World {
 public:
  World();  // this process alone
  // Waits for all processes. Throws RunError naming those that do not arrive, or one whose fingerprint
  // differs; InputError for a port that is taken.
  World(const ProcessPlace& place, const WorldOptions& options);
  ~World();  // says so to the others when it is the end of a failure
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const ProcessGroup& all() const { return all_; }
  Journal& journal() const { return *journal_; }

  // Waits for all ranks without a limit but death: for where one works much longer than the others.
  void meet();
  // The work is done. The process that keeps the store waits here for the others.
  void finish();

 private:
  class Watch;
  std::shared_ptr<Journal> journal_;
  std::shared_ptr<Watch> watch_;  // null when it exchanges nothing
  ProcessGroup all_;
  int64_t meetings_ = 0;
};

}  // namespace ospnext
