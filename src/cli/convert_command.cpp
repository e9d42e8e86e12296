// ospnext convert and merge-lora: write a model in another layout or dtype, or with LoRAs.
#include <unistd.h>

#include <array>
#include <cstdio>
#include <iostream>

#include "cli/commands.h"
#include "core/choice.h"
#include "core/error.h"
#include "core/number_check.h"
#include "packages/convert_model.h"
#include "packages/model_fields.h"
#include "train/checkpoint_model.h"

namespace ospnext {
namespace {

constexpr double kGigabyte = 1e9;

struct WriteFlags {
  ModelFields model;
  std::string output;
  std::string dtype = "keep";
  double shard_size = 10;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    field("output", output, "folder to write, new or empty");
    field("dtype", dtype,
          "float32, float16 or bf16 for all weights; keep: the dtype in which each is stored");
    field("shard_size", shard_size, "GB (1e9 bytes) that a shard holds at most");
  }

  std::optional<DType> written_dtype() const {
    using Choice = std::pair<const char*, std::optional<DType>>;
    return one_of("--dtype", dtype,
                  std::array{Choice{"keep", std::nullopt}, Choice{"float32", DType::kF32},
                             Choice{"float16", DType::kF16}, Choice{"bf16", DType::kBF16}});
  }

  Conversion conversion(ModelFamily layout) const {
    check_range("--shard-size", shard_size, 1e-6, 1e6);
    return {layout, written_dtype(), static_cast<int64_t>(shard_size * kGigabyte)};
  }
};

struct ConvertFlags : WriteFlags {
  std::string layout;
  std::string checkpoint;
  std::string weights = "ema";

  template <class Visitor>
  void visit(Visitor&& field) {
    WriteFlags::visit(field);
    field("layout", layout, "wan, diffusers, osp-next or single-file");
    field("checkpoint", checkpoint,
          "folder of a training's checkpoint, such as run/checkpoints/step-00000500: write its "
          "model, with the other parts and frozen weights of --model, or its LoRA");
    field("weights", weights, "of the checkpoint: ema (averaged) or raw");
  }
};

struct MergeFlags : WriteFlags {
  LoraFields loras;

  template <class Visitor>
  void visit(Visitor&& field) {
    WriteFlags::visit(field);
    loras.visit(field);
  }
};

Progress terminal_progress() {
  return Progress(&std::cerr, isatty(STDERR_FILENO) != 0);
}

void report(const WriteFlags& flags, const std::vector<WrittenPart>& parts) {
  for (const WrittenPart& part : parts) {
    char line[120];
    std::snprintf(line, sizeof line, "%zu tensors, %lld parameters, %.2f GB", part.tensors,
                  static_cast<long long>(part.parameters),
                  static_cast<double>(part.bytes) / kGigabyte);
    std::cout << (std::filesystem::path(flags.output) / part.file).string() << ": " << part.title
              << ", " << line << "\n";
  }
}

void write_model(const WriteFlags& flags, const ModelFiles& files, ModelFamily layout,
                 const CancellationToken& cancel) {
  Progress progress = terminal_progress();
  report(flags, convert_model(files, flags.conversion(layout), flags.output, progress, cancel));
}

void write_checkpoint(const ConvertFlags& flags, const CancellationToken& cancel) {
  const StoredCheckpoint stored(flags.checkpoint);
  const TrainedWeights which = parse_trained_weights(flags.weights, "--weights");
  if (is_of_lora(stored)) {
    if (!flags.layout.empty()) {
      throw InputError("--layout: found " + flags.layout +
                       " for the checkpoint of a LoRA, "
                       "expected none: it is written as PEFT does");
    }
    convert_lora_checkpoint(stored, which, flags.written_dtype(), flags.output);
    std::cout << flags.output << ": LoRA, " << stored.shapes().size() << " tensors\n";
    return;
  }
  const Conversion conversion = flags.conversion(parse_layout(flags.layout, "--layout"));
  Progress progress = terminal_progress();
  report(flags, convert_checkpoint(stored, which, flags.model, conversion, flags.output, progress,
                                   cancel));
}

}  // namespace

void run_convert(const Arguments& arguments, const CancellationToken& cancel) {
  ConvertFlags flags;
  if (!parse_flags("convert",
                   "Write a model in another package layout or dtype, or that of a training's "
                   "checkpoint. Parts that the model lacks are left out.",
                   arguments, flags)) {
    return;
  }
  if (!flags.checkpoint.empty()) {
    write_checkpoint(flags, cancel);
    return;
  }
  if (flags.weights != ConvertFlags().weights) {
    throw InputError("--weights: found " + flags.weights + " without --checkpoint");
  }
  write_model(flags, flags.model.find(), parse_layout(flags.layout, "--layout"), cancel);
}

void run_merge_lora(const Arguments& arguments, const CancellationToken& cancel) {
  MergeFlags flags;
  if (!parse_flags("merge-lora",
                   "Write a model with LoRAs added to its transformer, in the layout it has.",
                   arguments, flags)) {
    return;
  }
  if (flags.loras.lora.empty()) {
    throw InputError("--lora: missing, expected FILE or FILE:STRENGTH");
  }
  const ModelFiles files = flags.model.find(flags.loras);
  files.require(ModelPart::kTransformer);
  write_model(flags, files, files.family, cancel);
}

}  // namespace ospnext
