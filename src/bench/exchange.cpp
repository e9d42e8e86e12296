#include "bench/exchange.h"

#include <algorithm>
#include <cstdio>

#include "bench/bench_config.h"
#include "bench/timing.h"
#include "core/error.h"
#include "core/fields.h"
#include "engine/join_world.h"

namespace ospnext {
namespace {

// An all-to-all in which every rank sends `rows` rows to every rank.
std::function<void()> even_exchange(const ProcessGroup& all, int64_t rows, int64_t width,
                                    const ComputeOptions& compute) {
  const at::Tensor x =
      at::ones({rows * all.size(), width},
               at::TensorOptions().device(compute.device).dtype(compute.dtype));  // [n·rows, C]
  const std::vector<int64_t> counts(all.size(), rows);
  return [=] { all.all_to_all(x, counts, counts, "bench"); };
}

}  // namespace

void bench_exchange(const ExchangeBenchConfig& config, std::ostream& out,
                    const CancellationToken& cancel) {
  config.timing.check();
  config.world.check();
  BenchModel model = config.model.model();
  const ProcessPlace place = process_place();
  if (place.size == 1) {
    throw InputError(
        "bench exchange: found one process, expected several, as in \"ospnext launch -n 2 -- bench "
        "exchange\"");
  }
  model.compute.device = device_of_rank(model.compute.device, place);
  const auto world =
      join_world(place, config.world, model.compute.device, fields_to_json(config), cancel);
  const ProcessGroup& all = world->all();
  const int64_t n = all.size(), C = model.transformer.dim;
  const int64_t rows = std::max<int64_t>(model.grid().tokens() / (n * n), 1);
  const std::vector<double> ms = median_milliseconds(
      {even_exchange(all, rows, C, model.compute), even_exchange(all, 1, 1, model.compute)},
      model.compute.device, config.timing.warmup, config.timing.runs);
  if (all.rank() == 0) {
    constexpr double kMega = 1e6, kMicro = 1e3;
    const double megabytes = static_cast<double>((n - 1) * rows * C) *
                             static_cast<double>(at::elementSize(model.compute.dtype)) / kMega;
    const double nothing = std::min(ms[1], ms[0] / 2);  // if noise exceeds a small exchange
    const double link = megabytes / (ms[0] - nothing);  // GB/s, as MB/ms
    char line[160];
    out << config.model.title(model) << ", " << n << " processes\n";
    std::snprintf(line, sizeof line, "a switch: %.3f MB sent by each in %.3f ms\n", megabytes,
                  ms[0]);
    out << line;
    std::snprintf(line, sizeof line, "for plan: --link %.4f --latency %.1f\n", link,
                  kMicro * nothing);
    out << line << std::flush;
  }
  world->finish();
}

}  // namespace ospnext
