// What `ospnext bench` times piece by piece, and how near each comes to the device's limits.
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

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    timing.visit(field);
  }
};

// A part of a model, such as attention, and the cases that are timed of it.
struct BenchPiece {
  const char* name;
  const char* description;
  std::vector<BenchCase> (*cases)(const BenchModel&);
  bool rounds;  // whether it can be timed with HiF8
};

std::span<const BenchPiece> bench_pieces();

// Writes a table to `out`: the median time of each case, its share of the device's best (a large
// product and a large copy, measured first), and plain ATen's time. Throws InputError for a
// configuration that does not fit; Cancelled between cases.
void bench_piece(const BenchPiece& piece, const PieceBenchConfig& config, std::ostream& out,
                 const CancellationToken& cancel);

}  // namespace ospnext
