// Measures how fast processes exchange tokens on this machine.
#pragma once

#include <ostream>

#include "bench/bench_config.h"
#include "core/cancel.h"
#include "engine/join_world.h"

namespace ospnext {

struct ExchangeBenchConfig {
  BenchModelFields model;
  TimingFields timing;
  WorldFields world;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    timing.visit(field);
    world.visit(field);
  }
};

// `ospnext bench exchange`: times the all-to-all of a video's tokens between the processes of this
// run. Writes the bandwidth and the latency to `out`, as flags for `ospnext plan`. All processes
// call it; rank 0 writes. Throws InputError for a single process.
void bench_exchange(const ExchangeBenchConfig& config, std::ostream& out,
                    const CancellationToken& cancel);

}  // namespace ospnext
