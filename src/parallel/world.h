// All processes of a run: how they meet, watch each other for failures, and end.
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
      std::chrono::seconds(50);  // how long to wait for others, on arrival and in collectives
  std::string fingerprint = {};  // version and configuration, which must be equal in all processes
  const CancellationToken* cancel = nullptr;  // ends waiting, if given
  bool engine_for_one = false;   // whether a single process runs real collectives, as a test
  at::Device device = at::kCPU;  // that this process works on
};

// Every rank publishes its position once a second. A rank that is silent for 6 s counts as dead. A
// rank that does not call a collective in time counts as hanging. The error messages of the other
// ranks name it and its position.
class World {
 public:
  World();  // this process alone
  // Waits for all processes. Throws RunError naming those that do not arrive or have another
  // fingerprint, and InputError for a port that is taken or as ProcessGroup() does.
  World(const ProcessPlace& place, const WorldOptions& options);
  ~World();  // reports a failure to the other ranks, unless finish() was called
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  const ProcessGroup& all() const { return all_; }
  Journal& journal() const { return *journal_; }

  // Waits for all ranks with no time limit, for places where one rank works much longer than the
  // others. Throws PeerError when a rank dies or fails, and Cancelled unless `cancellable` is
  // false: then what the ranks do here is finished also after an interrupt. Throws RankFailure when
  // another rank came by meet_failed().
  void meet(bool cancellable = true);
  // Comes to the meeting that is next for this rank, with the reason why it cannot do its part of
  // what all do together. Where this returns on one rank and the others get RankFailure, all are at
  // the same place. Ranks that wait in a collective for this one do not get there: they end with
  // the reason after the time limit of collectives, and this throws PeerError.
  void meet_failed(const std::string& reason);
  // Throws PeerError when another rank has died or failed: for a rank that waits for something else
  // than the others.
  void check() const;
  // Says that the work of this rank is done. Rank 0 waits here for the others. On GPUs all wait for
  // all: collectives return before the devices have made them, and a process that ends takes memory
  // with it that they may still read or write.
  void finish();

 private:
  class Watch;
  std::shared_ptr<Journal> journal_;
  std::shared_ptr<Watch> watch_;  // null for a single process without an engine
  ProcessGroup all_;
  at::Device device_ = at::kCPU;
  int64_t meetings_ = 0;
};

}  // namespace ospnext
