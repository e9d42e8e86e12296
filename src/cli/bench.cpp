// ospnext bench: how fast the pieces of a model run on this machine, compared with its limits.
#include <iostream>

#include "bench/exchange.h"
#include "bench/generation.h"
#include "bench/pieces.h"
#include "bench/reinforcement.h"
#include "bench/training.h"
#include "cli/commands.h"

namespace ospnext {
namespace {

void run_piece(const BenchPiece& piece, const Arguments& arguments,
               const CancellationToken& cancel) {
  PieceBenchConfig config;
  if (parse_flags(std::string("bench ") + piece.name,
                  "Time pieces of a model of a released size with random weights: the median, its "
                  "share of the device's limit (measured first), and the time of plain ATen.",
                  arguments, config)) {
    bench_piece(piece, config, std::cout, cancel);
  }
}

void run_generation(const Arguments& arguments, const CancellationToken& cancel) {
  GenerationBenchConfig config;
  if (parse_flags(
          "bench generate",
          "Make one video with random weights, made in memory, and print the seconds and the "
          "peak memory of each stage, and on a GPU its idle time in denoising. With several "
          "processes also print the data that they exchanged.",
          arguments, config)) {
    bench_generation(config, std::cout, cancel);
  }
}

void run_exchange(const Arguments& arguments, const CancellationToken& cancel) {
  ExchangeBenchConfig config;
  if (parse_flags(
          "bench exchange",
          "Time the exchange between several processes when a video's tokens change owners: "
          "ospnext launch -n 2 -- bench exchange.",
          arguments, config)) {
    bench_exchange(config, std::cout, cancel);
  }
}

void run_training(const Arguments& arguments, const CancellationToken& cancel) {
  TrainingBenchConfig config;
  if (parse_flags("bench train",
                  "Run steps of training with random weights and data, and print the seconds of a "
                  "step, samples/s, model TFLOP/s and memory. With several processes also print "
                  "the data that they exchanged.",
                  arguments, config)) {
    if (config.deterministic) {
      compute_deterministically();
    }
    bench_training(config, std::cout, cancel);
  }
}

void run_reinforcement(const Arguments& arguments, const CancellationToken& cancel) {
  RlBenchConfig config;
  if (parse_flags("bench rl",
                  "Run epochs of reinforcement learning with random weights, random texts and a "
                  "reward that sleeps, and print the seconds of the parts of an epoch, the GPU's "
                  "idle time and memory; then time sampling and the passes of an update alone.",
                  arguments, config)) {
    bench_reinforcement(config, std::cout, cancel);
  }
}

std::vector<Command> bench_commands() {
  std::vector<Command> commands;
  for (const BenchPiece& piece : bench_pieces()) {
    commands.push_back({piece.name, piece.description,
                        [&piece](const Arguments& arguments, const CancellationToken& cancel) {
                          run_piece(piece, arguments, cancel);
                        }});
  }
  commands.push_back(
      {"generate", "a whole generation: seconds and memory of each stage, and the GPU's idle time",
       run_generation});
  commands.push_back(
      {"train", "steps of training: seconds, samples/s, model TFLOP/s and memory", run_training});
  commands.push_back(
      {"rl", "epochs of reinforcement learning: seconds of their parts, idle time and memory",
       run_reinforcement});
  commands.push_back({"exchange",
                      "the exchange between several processes when a video's tokens change owners",
                      run_exchange});
  return commands;
}

}  // namespace

void run_bench(const Arguments& arguments, const CancellationToken& cancel) {
  if (!arguments.empty() && (arguments[0] == "--help" || arguments[0] == "-h")) {
    std::cout << "Usage: ospnext bench PIECE [flags]\n\nPieces:\n"
              << command_list(bench_commands());
    return;
  }
  run_command(bench_commands(), "ospnext bench", arguments, cancel);
}

}  // namespace ospnext
