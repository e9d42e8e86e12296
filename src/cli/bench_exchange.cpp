#include "cli/bench_exchange.h"

#include <algorithm>
#include <cstdio>
#include <iostream>

#include "cli/bench_flags.h"
#include "cli/bench_timing.h"
#include "cli/world_flags.h"
#include "core/error.h"

namespace ospnext {
namespace {

struct ExchangeFlags {
  BenchModelFlags model;
  TimingFlags timing;
  WorldFlags world;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    timing.visit(field);
    world.visit(field);
  }
};

// All-to-all of as many rows between any two ranks.
std::function<void()> even_exchange(const ProcessGroup& all, int64_t rows, int64_t width,
                                    const ComputeOptions& compute) {
  const at::Tensor x =
      at::ones({rows * all.size(), width},
               at::TensorOptions().device(compute.device).dtype(compute.dtype));  // [n·rows, C]
  const std::vector<int64_t> counts(all.size(), rows);
  return [=] { all.all_to_all(x, counts, counts, "bench"); };
}

}  // namespace

void run_bench_exchange(const Arguments& arguments, const CancellationToken& cancel) {
  ExchangeFlags flags;
  if (!parse_flags("bench exchange",
                   "Time what several processes exchange when a video's tokens change owners: "
                   "ospnext launch -n 2 -- bench exchange.",
                   arguments, flags)) {
    return;
  }
  flags.timing.check();
  flags.world.check();
  BenchModel model = flags.model.model();
  const ProcessPlace place = process_place();
  if (place.size == 1) {
    throw InputError(
        "bench exchange: found one process, expected several, as in \"ospnext launch -n 2 -- bench "
        "exchange\"");
  }
  model.compute.device = device_of_rank(model.compute.device, place);
  const auto world =
      join_world(place, flags.world, model.compute.device, fields_to_json(flags), cancel);
  const ProcessGroup& all = world->all();
  const int64_t n = all.size(), C = model.transformer.dim;
  const int64_t rows = std::max<int64_t>(model.grid().tokens() / (n * n), 1);
  const std::vector<double> ms = median_milliseconds(
      {even_exchange(all, rows, C, model.compute), even_exchange(all, 1, 1, model.compute)},
      model.compute.device, flags.timing.warmup, flags.timing.runs);
  if (all.rank() == 0) {
    constexpr double kMega = 1e6, kMicro = 1e3;
    const double megabytes = static_cast<double>((n - 1) * rows * C) *
                             static_cast<double>(at::elementSize(model.compute.dtype)) / kMega;
    const double nothing = std::min(ms[1], ms[0] / 2);  // where noise is larger than a small switch
    const double link = megabytes / (ms[0] - nothing);  // GB/s, as MB/ms
    char line[160];
    std::cout << flags.model.title(model) << ", " << n << " processes\n";
    std::snprintf(line, sizeof line, "a switch: %.3f MB sent by each in %.3f ms\n", megabytes,
                  ms[0]);
    std::cout << line;
    std::snprintf(line, sizeof line, "for plan: --link %.4f --latency %.1f\n", link,
                  kMicro * nothing);
    std::cout << line << std::flush;
  }
  world->finish();
}

}  // namespace ospnext
