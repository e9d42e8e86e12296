// Times pieces of a model and prints one row for each case.
#include "bench/pieces.h"

#include <algorithm>
#include <iomanip>
#include <sstream>

#include "bench/timing.h"
#include "core/error.h"
#include "engine/memory.h"

namespace ospnext {
namespace {

// The device's limits, measured in the same run.
struct Ceilings {
  double flops_per_ms = 0;
  double bytes_per_ms = 0;

  // The shortest time that these limits allow for a case, in milliseconds.
  double floor(const BenchCase& piece) const {
    return std::max(piece.flops / flops_per_ms, piece.bytes / bytes_per_ms);
  }
};

constexpr int kNameWidth = 34, kCellWidth = 10;
constexpr double kGibibyte = 1 << 30;

// "  12.3", or blanks for 0.
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

// Times of one case; 0 if not measured.
struct Timing {
  double ms = 0, aten_ms = 0, bare_ms = 0;
  int64_t peak_bytes = 0;
};

void print_row(std::ostream& out, const BenchCase& piece, const Timing& measured,
               const Ceilings& ceilings) {
  constexpr double kFlopsPerMsInTera = 1e9, kBytesPerMsInGiga = 1e6;
  const double ms = measured.ms;
  const double bare_ms = measured.bare_ms + piece.extra_bytes / ceilings.bytes_per_ms;
  std::string name = piece.name;
  name.resize(std::max<size_t>(name.size(), kNameWidth), ' ');
  out << name << cell(ms, 3) << cell(piece.flops / ms / kFlopsPerMsInTera, 1)
      << cell(piece.bytes / ms / kBytesPerMsInGiga, 0) << cell(100 * ceilings.floor(piece) / ms, 1)
      << cell(measured.aten_ms, 3) << cell(measured.aten_ms / ms, 2)
      << cell(measured.bare_ms > 0 ? 100 * ms / bare_ms : 0, 1)
      << cell(static_cast<double>(measured.peak_bytes) / kGibibyte, 2) << std::endl;
}

void print_header(std::ostream& out, const PieceBenchConfig& config, const BenchModel& model) {
  out << config.model.title(model) << "\n" << std::string(kNameWidth, ' ');
  for (const char* column :
       {"ms", "TFLOP/s", "GB/s", "% of max", "ATen ms", "ratio", "% of bare", "GiB"}) {
    out << std::setw(kCellWidth) << column;
  }
  out << std::endl;
}

// Median times of a case: ours, plain ATen and the bare product. They run in alternation.
Timing measure(const BenchCase& piece, at::Device device, const TimingFields& timing) {
  Timing measured;
  if (device.is_cuda()) {
    reset_peak_memory(device);
    piece.ours();
    measured.peak_bytes = peak_memory(device).cuda_bytes;
  }
  std::vector<std::function<void()>> functions = {piece.ours};
  for (const std::function<void()>& other : {piece.aten, piece.bare}) {
    if (other) {
      functions.push_back(other);
    }
  }
  const std::vector<double> ms = median_milliseconds(functions, device, timing.warmup, timing.runs);
  measured.ms = ms[0];
  measured.aten_ms = piece.aten ? ms[1] : 0;
  measured.bare_ms = piece.bare ? ms.back() : 0;
  return measured;
}

constexpr BenchPiece kPieces[] = {
    {"attention", "self-attention in each pattern, and attention to the text", attention_cases,
     false},
    {"gemm", "the linear layers of a block, beside the bare product", gemm_cases, true},
    {"pointwise", "norms, rotation, residuals and the switch of layouts", pointwise_cases, false},
    {"block", "a whole block in each pattern", block_cases, true},
    {"forward", "one pass of the transformer", forward_cases, true, /*offloads=*/true},
    {"vae", "decoding the video, whole and in tiles, and encoding it", vae_cases, false},
    {"text", "the text encoder", text_cases, false},
};

}  // namespace

std::span<const BenchPiece> bench_pieces() {
  return kPieces;
}

void bench_piece(const BenchPiece& piece, const PieceBenchConfig& config, std::ostream& out,
                 const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  if (!piece.rounds && config.model.precision.starts_with("hif8")) {
    throw InputError(
        "`precision`: found " + config.model.precision +
        ", which is for gemm, block, forward and generate, expected float32, bf16 or auto");
  }
  if (config.offload && !piece.offloads) {
    throw InputError("`offload`: found with bench " + std::string(piece.name) +
                     ", expected bench forward or generate");
  }
  config.timing.check();
  BenchModel model = config.model.model();
  model.compute.offload = config.offload;
  const at::Device device = model.compute.device;
  print_header(out, config, model);
  cancel.check();
  const std::vector<BenchCase> best = ceiling_cases(model.compute);
  const Timing product = measure(best[0], device, config.timing);
  const Timing copy = measure(best[1], device, config.timing);
  const Ceilings ceilings{.flops_per_ms = best[0].flops / product.ms,
                          .bytes_per_ms = best[1].bytes / copy.ms};
  print_row(out, best[0], product, ceilings);
  print_row(out, best[1], copy, ceilings);
  for (const BenchCase& one : piece.cases(model)) {
    cancel.check();
    print_row(out, one, measure(one, device, config.timing), ceilings);
  }
  if (!device.is_cuda()) {
    const auto bytes = static_cast<double>(peak_memory(device).host_bytes);
    out << "peak memory: " << cell(bytes / kGibibyte, 2) << " GiB" << std::endl;
  }
}

}  // namespace ospnext
