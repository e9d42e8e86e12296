// ospnext eval: measures how well a model of the procedural world follows its prompts.
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <numeric>
#include <optional>

#include "cli/commands.h"
#include "cli/sampling_flags.h"
#include "core/number_check.h"
#include "io/output_file.h"
#include "packages/model_fields.h"
#include "train/evaluation.h"
#include "train/vae_training.h"

namespace ospnext {
namespace {

struct EvalConfig {
  ModelFields model;
  LiveLoraFields loras;
  EvaluationConfig evaluation;
  std::string device = "auto";
  std::string precision = "auto";
  bool offload = false;
  GenerationConfig generation;
  std::string details;  // CSV file; empty: none
  std::string against;  // a second precision; empty: none
  int64_t against_clips = 64;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    loras.visit(field);
    evaluation.visit(field);
    field("device", device, "cpu, cuda, cuda:N or auto");
    field("precision", precision, "float32, bf16, hif8, hif8-p8, hif8-simulated or auto");
    field("offload", offload, kOffloadHelp);
    generation.visit_sampling(field);
    field("details", details,
          "CSV file to write: for each sampled clip, the requested and the measured properties");
    field("against", against,
          "a second precision: also print the PSNR between clips of both from the same noise");
    field("against_clips", against_clips, "number of clips that --against compares");
  }
};

EvaluationSeconds measure_clips(const EvalConfig& config, const ModelFiles& files,
                                const ComputeOptions& compute, Progress& progress,
                                const CancellationToken& cancel) {
  std::cout << evaluation_header() << std::flush;
  std::string details = details_header();
  const EvaluationWatcher watcher{
      .on_clip = [&](const EvaluatedClip& clip) { details += details_line(clip); },
      .on_row =
          [&](const EvaluationRow& row) {
            std::cout << evaluation_line(row) << std::flush;
            if (!config.details.empty()) {
              write_text_file(config.details, details);
            }
          }};
  return evaluate_prompt_following(files, compute, config.generation, config.evaluation, watcher,
                                   progress, cancel);
}

void print_vae_quality(const EvalConfig& config, const ModelFiles& files,
                       const ComputeOptions& compute, const CancellationToken& cancel) {
  Vae vae = load_vae(files.require(ModelPart::kVae), compute);
  const VaeQuality quality = measure_vae(
      vae, {.height = config.generation.height, .width = config.generation.width}, compute.device,
      compute.dtype, config.evaluation.vae_clips, config.evaluation.seed, cancel);
  std::printf("VAE, %lld held-out clips: %.2f dB on average, %.2f dB at the worst frame position\n",
              static_cast<long long>(config.evaluation.vae_clips), quality.mean_db,
              quality.worst_position_db());
}

void print_comparison(const EvalConfig& config, const ModelFiles& files,
                      const ComputeOptions& compute, const ComputeOptions& reference,
                      Progress& progress, const CancellationToken& cancel) {
  const std::vector<double> decibels =
      compare_precisions(files, compute, reference, config.generation, config.against_clips,
                         config.evaluation.batch_size, config.evaluation.seed, progress, cancel);
  const double sum = std::accumulate(decibels.begin(), decibels.end(), 0.0);
  std::printf("%s against %s, %zu clips: %.2f dB on average, %.2f dB at the worst\n",
              compute.precision_name().c_str(), reference.precision_name().c_str(), decibels.size(),
              sum / static_cast<double>(decibels.size()),
              *std::min_element(decibels.begin(), decibels.end()));
}

}  // namespace

void run_eval(const Arguments& arguments, const CancellationToken& cancel) {
  EvalConfig config;
  config.model.model = "models/tiny";
  const auto given =
      read_flags("eval", "Measure how a model of the procedural world follows its prompts.",
                 flags_with_model_defaults(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  const auto compute_in = [&](const std::string& precision) {
    ComputeOptions compute = parse_transformer_compute(config.device, precision);
    compute.offload = config.offload;
    return compute;
  };
  const ComputeOptions compute = compute_in(config.precision);
  const auto reference =
      config.against.empty() ? std::nullopt : std::optional(compute_in(config.against));
  check_range("--against-clips", config.against_clips, int64_t{1}, int64_t{10'000'000});
  const ModelFiles files = config.model.find(config.loras);
  config.generation =
      defaults_for(files, read_transformer_config(files.require(ModelPart::kTransformer)));
  given->apply(config);
  settle_sigmas(*given, config.generation.sigmas, config.generation.steps);
  if (!config.details.empty()) {
    check_writable(config.details, "--details");
  }
  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  const EvaluationSeconds seconds = measure_clips(config, files, compute, progress, cancel);
  std::fprintf(stderr, "seconds: sampling %.1f, decoding %.1f, drawing %.1f, measuring %.1f\n",
               seconds.sampling, seconds.decoding, seconds.drawing, seconds.measuring);
  if (config.evaluation.vae_clips > 0) {
    print_vae_quality(config, files, compute, cancel);
  }
  if (reference) {
    print_comparison(config, files, compute, *reference, progress, cancel);
  }
}

}  // namespace ospnext
