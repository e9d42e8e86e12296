// ospnext quantize: writes a transformer's weights as HiFloat8 codes.
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "cli/commands.h"
#include "core/error.h"
#include "core/number_check.h"
#include "packages/model_fields.h"
#include "packages/quantize_model.h"

namespace ospnext {
namespace {

constexpr double kGigabyte = 1e9;

struct QuantizeFlags {
  ModelFields model;
  LoraFields loras;
  std::string output;
  double shard_size = 10;

  template <class Visitor>
  void visit(Visitor&& field) {
    model.visit(field);
    loras.visit(field);
    field("output", output, "folder to write, new or empty");
    field("shard_size", shard_size, "GB (1e9 bytes) that a shard holds at most");
  }
};

}  // namespace

void run_quantize(const Arguments& arguments, const CancellationToken& cancel) {
  QuantizeFlags flags;
  if (!parse_flags("quantize",
                   "Write a transformer whose blocks' weights are HiFloat8 codes, half the size of "
                   "bf16; --transformer and --model take it like others.",
                   arguments, flags)) {
    return;
  }
  check_range("--shard-size", flags.shard_size, 1e-6, 1e6);
  if (flags.output.empty()) {
    throw InputError("--output: missing, expected the name of a folder");
  }
  const PartFiles files = flags.model.find(flags.loras).require(ModelPart::kTransformer);
  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  const QuantizedModel written = quantize_transformer(
      files, static_cast<int64_t>(flags.shard_size * kGigabyte), flags.output, progress, cancel);
  char line[160];
  std::snprintf(line, sizeof line, "%zu of %zu tensors as HiF8 codes, %lld parameters, %.2f GB",
                written.rounded, written.tensors, static_cast<long long>(written.parameters),
                static_cast<double>(written.bytes) / kGigabyte);
  std::cout << (std::filesystem::path(flags.output) / written.file).string() << ": transformer, "
            << line << "\n";
}

}  // namespace ospnext
