// ospnext stage advantages: rewards of groups to advantages.
#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/choice.h"
#include "core/error.h"
#include "io/weights.h"
#include "rl/advantages.h"

namespace ospnext {
namespace {

enum class Kind { kOsp, kMix };
constexpr std::array<std::pair<const char*, Kind>, 2> kKinds = {
    {{"osp", Kind::kOsp}, {"mix", Kind::kMix}}};

struct AdvantagesStage {
  std::string kind;
  std::string input;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("kind", kind, "osp or mix");
    field("input", input,
          "safetensors with rewards [n], or rewards [n, K] and weights [K]; groups [n] int64");
    common.visit(field);
  }
};

Advantages read_and_compute(const std::string& file, Kind kind) {
  StageInput input(file);
  const bool one = input.any("rewards", "N,...").dim() == 1;
  const at::Tensor read = input.floats("rewards", one ? "N" : "N,K").to(at::kDouble);
  const at::Tensor rewards = one ? read.unsqueeze(1) : read;  // [n, K]
  const at::Tensor weights =
      one ? at::ones({1}, at::kDouble) : input.floats("weights", "K").to(at::kDouble);
  const at::Tensor groups = input.any("groups", "N");
  if (groups.scalar_type() != at::kLong) {
    throw InputError(file + ": groups: found " + std::string(groups.dtype().name()) +
                     ", expected int64");
  }
  input.warn_of_rest();
  return kind == Kind::kOsp ? osp_advantages(rewards, weights, groups)
                            : mix_advantages(rewards, weights, groups);
}

}  // namespace

void run_stage_advantages(const Arguments& arguments, const CancellationToken&) {
  AdvantagesStage config;
  if (!parse_flags("stage advantages",
                   "Write the advantages [n] of rewards in their groups, and kept [n] int64: 1 for "
                   "samples of which the policy learns.",
                   arguments, config)) {
    return;
  }
  const Kind kind = one_of("`kind`", config.kind, kKinds);
  config.common.check();
  config.common.compute();
  const Advantages result = read_and_compute(config.input, kind);
  save_safetensors(config.common.output, {{"advantages", result.values.to(at::kFloat)},
                                          {"kept", result.kept.to(at::kLong)}});
}

}  // namespace ospnext
