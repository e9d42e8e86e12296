// ospnext make-random: writes a checkpoint of a released size with random weights.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iostream>

#include "cli/commands.h"
#include "core/choice.h"
#include "core/error.h"
#include "core/number_check.h"
#include "packages/random_model.h"

namespace ospnext {
namespace {

struct RandomFlags {
  std::string size;
  std::string output;
  std::vector<std::string> part;
  uint64_t seed = 0;
  std::string dtype = "bf16";
  double shard_size = 10;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("size", size, "14b or 1.3b, as Wan2.1's");
    field("output", output, "folder to write, new or empty");
    field("part", part,
          "transformer, text-encoder or vae; may be repeated; none given: the transformer");
    field("seed", seed, "seed of the weights");
    field("dtype", dtype, "float32, float16 or bf16");
    field("shard_size", shard_size, "GB (1e9 bytes) that a shard holds at most");
  }

  RandomModel model() const {
    check_range("--shard-size", shard_size, 1e-6, 1e6);
    RandomModel model;
    model.transformer = released_transformer(size, "--size");
    model.seed = seed;
    model.max_shard_bytes = static_cast<int64_t>(shard_size * 1e9);
    model.dtype =
        one_of("--dtype", dtype,
               std::array{std::pair{"float32", DType::kF32}, std::pair{"float16", DType::kF16},
                          std::pair{"bf16", DType::kBF16}});
    if (!part.empty()) {
      model.parts.clear();
    }
    for (const std::string& name : part) {
      const ModelPart one = one_of("--part", name,
                                   std::array{std::pair{"transformer", ModelPart::kTransformer},
                                              std::pair{"text-encoder", ModelPart::kTextEncoder},
                                              std::pair{"vae", ModelPart::kVae}});
      if (std::find(model.parts.begin(), model.parts.end(), one) != model.parts.end()) {
        throw InputError("--part: found " + name + " twice, expected it once");
      }
      model.parts.push_back(one);
    }
    return model;
  }
};

}  // namespace

void run_make_random(const Arguments& arguments, const CancellationToken& cancel) {
  RandomFlags flags;
  if (!parse_flags("make-random",
                   "Write a checkpoint of a released size with random weights, to measure with.",
                   arguments, flags)) {
    return;
  }
  Progress progress(&std::cerr, isatty(STDERR_FILENO) != 0);
  write_random_model(flags.model(), flags.output, progress, cancel);
  std::cout << flags.output << "\n";
}

}  // namespace ospnext
