// ospnext bench: how fast the pieces of a model run here, and how near the device's limits.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <sstream>
#include <utility>

#include "cli/bench_cases.h"
#include "cli/bench_exchange.h"
#include "cli/bench_flags.h"
#include "cli/bench_generate.h"
#include "cli/bench_timing.h"
#include "cli/commands.h"
#include "core/error.h"
#include "pipeline/memory.h"

namespace ospnext {
namespace {

struct BenchFlags {
  BenchModelFlags model;
  TimingFlags timing;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    timing.visit(field);
  }
};

// What the device does at most, measured in the same run.
struct Ceilings {
  double flops_per_ms = 0;
  double bytes_per_ms = 0;

  // The least milliseconds that a case takes.
  double floor(const BenchCase& piece) const {
    return std::max(piece.flops / flops_per_ms, piece.bytes / bytes_per_ms);
  }
};

constexpr int kNameWidth = 34, kCellWidth = 10;
constexpr double kGibibyte = 1 << 30;

// "  12.3", or blanks where there is no number.
std::string cell(double value, int decimals) {
  std::ostringstream text;
  text << std::setw(kCellWidth) << std::fixed << std::setprecision(decimals);
  if (value > 0) {
    text << value;
  } else {
    text << "";
  }
  return text.str();
}

// What one case took; 0 where it was not measured.
struct Timing {
  double ms = 0, aten_ms = 0, bare_ms = 0;
  int64_t peak_bytes = 0;
};

void print_row(const BenchCase& piece, const Timing& measured, const Ceilings& ceilings) {
  constexpr double kFlopsPerMsInTera = 1e9, kBytesPerMsInGiga = 1e6;
  const double ms = measured.ms;
  const double bare_ms = measured.bare_ms + piece.extra_bytes / ceilings.bytes_per_ms;
  std::string name = piece.name;
  name.resize(std::max<size_t>(name.size(), kNameWidth), ' ');
  std::cout << name << cell(ms, 3) << cell(piece.flops / ms / kFlopsPerMsInTera, 1)
            << cell(piece.bytes / ms / kBytesPerMsInGiga, 0)
            << cell(100 * ceilings.floor(piece) / ms, 1) << cell(measured.aten_ms, 3)
            << cell(measured.aten_ms / ms, 2)
            << cell(measured.bare_ms > 0 ? 100 * ms / bare_ms : 0, 1)
            << cell(static_cast<double>(measured.peak_bytes) / kGibibyte, 2) << std::endl;
}

void print_header(const BenchFlags& flags, const BenchModel& model) {
  std::cout << flags.model.title(model) << "\n" << std::string(kNameWidth, ' ');
  for (const char* column :
       {"ms", "TFLOP/s", "GB/s", "% of max", "ATen ms", "ratio", "% of bare", "GiB"}) {
    std::cout << std::setw(kCellWidth) << column;
  }
  std::cout << std::endl;
}

using Cases = std::vector<BenchCase> (*)(const BenchModel&);

struct Piece {
  const char* name;
  const char* description;
  Cases cases;
  bool rounds;  // whether it can be timed with HiF8
};

void time_piece(const Piece& timed, const Arguments& arguments, const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  BenchFlags flags;
  if (!parse_flags(
          std::string("bench ") + timed.name,
          "Time pieces of a model of a released size with random weights: the median, what "
          "share of the device's best (measured first) it is, and plain ATen's time.",
          arguments, flags)) {
    return;
  }
  if (!timed.rounds && flags.model.precision.starts_with("hif8")) {
    throw InputError(
        "--precision: found " + flags.model.precision +
        ", which is for gemm, block, forward and generate, expected float32, bf16 or auto");
  }
  flags.timing.check();
  const BenchModel model = flags.model.model();
  print_header(flags, model);
  const auto measure = [&](const BenchCase& piece) {
    cancel.check();
    Timing measured;
    if (model.compute.device.is_cuda()) {
      reset_peak_memory(model.compute.device);
      piece.ours();
      measured.peak_bytes = peak_memory(model.compute.device).cuda_bytes;
    }
    std::vector<std::function<void()>> functions = {piece.ours};
    for (const std::function<void()>& other : {piece.aten, piece.bare}) {
      if (other) {
        functions.push_back(other);
      }
    }
    const std::vector<double> ms = median_milliseconds(functions, model.compute.device,
                                                       flags.timing.warmup, flags.timing.runs);
    measured.ms = ms[0];
    measured.aten_ms = piece.aten ? ms[1] : 0;
    measured.bare_ms = piece.bare ? ms.back() : 0;
    return measured;
  };
  Ceilings ceilings;
  {
    const std::vector<BenchCase> best = ceiling_cases(model.compute);
    const Timing product = measure(best[0]), copy = measure(best[1]);
    ceilings.flops_per_ms = best[0].flops / product.ms;
    ceilings.bytes_per_ms = best[1].bytes / copy.ms;
    print_row(best[0], product, ceilings);
    print_row(best[1], copy, ceilings);
  }
  for (const BenchCase& piece : timed.cases(model)) {
    print_row(piece, measure(piece), ceilings);
  }
  if (!model.compute.device.is_cuda()) {
    const auto bytes = static_cast<double>(peak_memory(model.compute.device).host_bytes);
    std::cout << "peak memory: " << cell(bytes / kGibibyte, 2) << " GiB" << std::endl;
  }
}

constexpr Piece kPieces[] = {
    {"attention", "self-attention in each pattern, and attention to the text", attention_cases,
     false},
    {"gemm", "the linear layers of a block, beside the bare product", gemm_cases, true},
    {"pointwise", "norms, rotation, residuals and the switch of layouts", pointwise_cases, false},
    {"block", "a whole block in each pattern", block_cases, true},
    {"forward", "one pass of the transformer", forward_cases, true},
    {"vae", "decoding the video, whole and in tiles, and encoding it", vae_cases, false},
    {"text", "the text encoder", text_cases, false},
};

template <size_t... i>
std::vector<Command> commands_of(std::index_sequence<i...>) {
  return {
      {kPieces[i].name, kPieces[i].description,
       [](const Arguments& arguments, const CancellationToken& cancel) {
         time_piece(kPieces[i], arguments, cancel);
       }}...,
      {"generate", "a whole generation: seconds and memory of each stage, and the GPU's idle time",
       run_bench_generate},
      {"exchange", "what several processes exchange when a video's tokens change owners",
       run_bench_exchange}};
}

std::vector<Command> pieces() {
  return commands_of(std::make_index_sequence<std::size(kPieces)>());
}

}  // namespace

void run_bench(const Arguments& arguments, const CancellationToken& cancel) {
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    std::cout << "Usage: ospnext bench PIECE [flags]\n\nPieces:\n" << command_list(pieces());
    return;
  }
  run_command(pieces(), "ospnext bench", arguments, cancel);
}

}  // namespace ospnext
