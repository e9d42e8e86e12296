// ospnext bench: how fast the pieces of a model run here, and how near the device's limits.
#include <algorithm>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <sstream>
#include <utility>

#include "cli/bench_cases.h"
#include "cli/bench_timing.h"
#include "cli/commands.h"
#include "core/error.h"
#include "core/number_check.h"
#include "pipeline/generation_config.h"
#include "pipeline/memory.h"
#include "pipeline/random_model.h"

namespace ospnext {
namespace {

struct BenchFlags {
  std::string size = "14b";
  std::string model_type = "dual_end";
  int64_t sparse_ratio = 2;
  int64_t num_full_blocks = 8;
  int64_t width = 1280;
  int64_t height = 720;
  int64_t num_frames = 81;
  std::string device = "auto";
  std::string precision = "auto";
  int64_t runs = 20;
  int64_t warmup = 3;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("size", size, "14b or 1.3b, as Wan2.1's");
    field("model_type", model_type, "full, dual_end or uniform");
    field("sparse_ratio", sparse_ratio, "P: a sparse block attends inside P*P segments");
    field("num_full_blocks", num_full_blocks, "full blocks of dual_end");
    field("width", width, "pixels");
    field("height", height, "pixels");
    field("num_frames", num_frames, "frames");
    field("device", device, "cpu, cuda, cuda:N or auto");
    field("precision", precision,
          "float32, bf16, auto, or for block and forward hif8, hif8-p8 and hif8-simulated");
    field("runs", runs, "timed runs of each, of which the median is shown");
    field("warmup", warmup, "runs before them");
  }

  // Throws InputError naming flag, value and rule.
  BenchModel model() const {
    check_range("--runs", runs, int64_t{1}, int64_t{10'000});
    check_range("--warmup", warmup, int64_t{0}, int64_t{10'000});
    BenchModel model;
    model.transformer = released_transformer(size, "--size");
    model.transformer.skiparse_model_type = model_type;
    model.transformer.sparse_ratio = sparse_ratio;
    model.transformer.num_full_blocks = model_type == "dual_end" ? num_full_blocks : 0;
    model.transformer.check("bench");
    GenerationConfig video;
    video.width = width;
    video.height = height;
    video.num_frames = num_frames;
    video.check(VaeConfig());
    model.width = width;
    model.height = height;
    model.num_frames = num_frames;
    model.compute = parse_transformer_compute(device, precision);
    return model;
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

constexpr int kNameWidth = 28, kCellWidth = 10;

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

void print_row(const BenchCase& piece, double ms, double aten_ms, const Ceilings& ceilings) {
  constexpr double kFlopsPerMsInTera = 1e9, kBytesPerMsInGiga = 1e6;
  std::string name = piece.name;
  name.resize(std::max<size_t>(name.size(), kNameWidth), ' ');
  std::cout << name << cell(ms, 3) << cell(piece.flops / ms / kFlopsPerMsInTera, 1)
            << cell(piece.bytes / ms / kBytesPerMsInGiga, 0)
            << cell(100 * ceilings.floor(piece) / ms, 1) << cell(aten_ms, 3)
            << cell(aten_ms / ms, 2) << std::endl;
}

void print_header(const BenchFlags& flags, const BenchModel& model) {
  std::cout << flags.size << " " << flags.model_type << ", " << flags.width << " x " << flags.height
            << " x " << flags.num_frames << " frames: " << model.grid().tokens() << " tokens, "
            << model.compute.device.str() << ", " << model.compute.precision_name() << "\n"
            << std::string(kNameWidth, ' ');
  for (const char* column : {"ms", "TFLOP/s", "GB/s", "% of max", "ATen ms", "ratio"}) {
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
  if (!timed.rounds && flags.precision.starts_with("hif8")) {
    throw InputError("--precision: found " + flags.precision +
                     ", which is for block and forward, expected float32, bf16 or auto");
  }
  const BenchModel model = flags.model();
  print_header(flags, model);
  const auto time = [&](const BenchCase& piece) {
    cancel.check();
    std::vector<std::function<void()>> functions = {piece.ours};
    if (piece.aten) {
      functions.push_back(piece.aten);
    }
    return median_milliseconds(functions, model.compute.device, flags.warmup, flags.runs);
  };
  Ceilings ceilings;
  {
    const std::vector<BenchCase> best = ceiling_cases(model.compute);
    ceilings.flops_per_ms = best[0].flops / time(best[0])[0];
    ceilings.bytes_per_ms = best[1].bytes / time(best[1])[0];
    for (const BenchCase& piece : best) {
      print_row(piece, ceilings.floor(piece), 0, ceilings);
    }
  }
  reset_peak_memory(model.compute.device);
  for (const BenchCase& piece : timed.cases(model)) {
    const std::vector<double> ms = time(piece);
    print_row(piece, ms[0], ms.size() > 1 ? ms[1] : 0, ceilings);
  }
  const PeakMemory peak = peak_memory(model.compute.device);
  constexpr double kGibibyte = 1 << 30;
  const auto bytes =
      static_cast<double>(model.compute.device.is_cuda() ? peak.cuda_bytes : peak.host_bytes);
  std::cout << "peak memory: " << cell(bytes / kGibibyte, 2) << " GiB" << std::endl;
}

constexpr Piece kPieces[] = {
    {"attention", "self-attention in each pattern, and attention to the text", attention_cases,
     false},
    {"gemm", "the linear layers of a block", gemm_cases, false},
    {"pointwise", "norms, rotation, residuals and the switch of layouts", pointwise_cases, false},
    {"block", "a whole block in each pattern", block_cases, true},
    {"forward", "one pass of the transformer", forward_cases, true},
    {"vae", "decoding and encoding the video", vae_cases, false},
    {"text", "the text encoder", text_cases, false},
};

template <size_t... i>
std::vector<Command> commands_of(std::index_sequence<i...>) {
  return {{kPieces[i].name, kPieces[i].description,
           [](const Arguments& arguments, const CancellationToken& cancel) {
             time_piece(kPieces[i], arguments, cancel);
           }}...};
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
