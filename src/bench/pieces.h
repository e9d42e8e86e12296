// Times a model piece by piece and compares each piece with the device's limits.
#pragma once

#include <ostream>
#include <span>
#include <vector>

#include "bench/bench_config.h"
#include "bench/cases.h"
#include "core/cancel.h"

namespace ospnext {

struct PieceBenchConfig {
  BenchModelFields model;
  TimingFields timing;
  bool offload = false;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    timing.visit(field);
    field("offload", offload, "of forward: keep the weights of blocks in host memory");
  }
};

// A part of a model, such as attention, and its timed cases.
struct BenchPiece {
  const char* name;
  const char* description;
  std::vector<BenchCase> (*cases)(const BenchModel&);
  bool rounds;            // whether it can be timed with HiF8
  bool offloads = false;  // whether it can be timed with offloaded weights
};

std::span<const BenchPiece> bench_pieces();

// Writes a table to `out`: the median time of each case, its share of the device's limit, and the
// time of plain ATen. The limits are a large product and a large copy, measured first. Throws
// InputError for a configuration that does not fit, and Cancelled between cases.
void bench_piece(const BenchPiece& piece, const PieceBenchConfig& config, std::ostream& out,
                 const CancellationToken& cancel);

}  // namespace ospnext
