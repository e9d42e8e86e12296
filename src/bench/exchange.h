// How fast processes exchange tokens here.
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
// run, and writes the bandwidth and latency that `ospnext plan` takes to `out`. Called by all
// processes; rank 0 writes. Throws InputError for a single process.
void bench_exchange(const ExchangeBenchConfig& config, std::ostream& out,
                    const CancellationToken& cancel);

}  // namespace ospnext
