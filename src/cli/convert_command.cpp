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

  Conversion conversion(ModelFamily layout) const {
    check_range("--shard-size", shard_size, 1e-6, 1e6);
    using Choice = std::pair<const char*, std::optional<DType>>;
    const auto type =
        one_of("--dtype", dtype,
               std::array{Choice{"keep", std::nullopt}, Choice{"float32", DType::kF32},
                          Choice{"float16", DType::kF16}, Choice{"bf16", DType::kBF16}});
    return {layout, type, static_cast<int64_t>(shard_size * kGigabyte)};
  }
};

struct ConvertFlags : WriteFlags {
  std::string layout;

  template <class Visitor>
  void visit(Visitor&& field) {
    WriteFlags::visit(field);
    field("layout", layout, "wan, diffusers, osp-next or single-file");
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

void write_model(const WriteFlags& flags, const ModelFiles& files, ModelFamily layout,
                 const CancellationToken& cancel) {
  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  for (const WrittenPart& part :
       convert_model(files, flags.conversion(layout), flags.output, progress, cancel)) {
    char line[120];
    std::snprintf(line, sizeof line, "%zu tensors, %lld parameters, %.2f GB", part.tensors,
                  static_cast<long long>(part.parameters),
                  static_cast<double>(part.bytes) / kGigabyte);
    std::cout << (std::filesystem::path(flags.output) / part.file).string() << ": " << part.title
              << ", " << line << "\n";
  }
}

}  // namespace

void run_convert(const Arguments& arguments, const CancellationToken& cancel) {
  ConvertFlags flags;
  if (!parse_flags("convert",
                   "Write a model in another package layout or dtype. Parts that the model lacks "
                   "are left out.",
                   arguments, flags)) {
    return;
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
