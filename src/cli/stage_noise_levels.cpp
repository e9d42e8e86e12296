// ospnext stage noise-levels: the noise levels of a training from random draws.
#include <cstdio>

#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/number_check.h"
#include "io/weights.h"
#include "schedulers/schedules.h"

namespace ospnext {
namespace {

struct NoiseLevelsStage {
  std::string input;
  double shift = 1.0;
  std::string dynamic_shift;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("input", input, "safetensors with normal [n] or uniform [n]");
    field("shift", shift, "time shift; larger draws more levels at high noise");
    field("dynamic_shift", dynamic_shift,
          "instead: HEIGHTxWIDTH of the latent, such as 90x160, which gives the shift");
    common.visit(field);
  }
};

constexpr double kLargestShift = 1000;

// The shift for a latent of the size "HEIGHTxWIDTH". Throws InputError.
double shift_of_size(const std::string& text) {
  constexpr long long kLargestSide = 1 << 20;
  long long height = 0, width = 0;
  int end = 0;
  const int found = std::sscanf(text.c_str(), "%lldx%lld%n", &height, &width, &end);
  const auto fits = [](long long side) {
    return side >= 2 && side <= kLargestSide && side % 2 == 0;
  };
  if (found != 2 || static_cast<size_t>(end) != text.size() || !fits(height) || !fits(width)) {
    throw InputError("--dynamic-shift: found \"" + text +
                     "\", expected height x width of the latent like 90x160, both even");
  }
  const double shift = dynamic_shift(height, width);
  if (shift > kLargestShift) {
    throw InputError("--dynamic-shift: found " + text +
                     ", expected a latent whose shift is at most " +
                     std::to_string(static_cast<int64_t>(kLargestShift)));
  }
  return shift;
}

// The shift that the flags ask for. Throws InputError.
double chosen_shift(const NoiseLevelsStage& config, const GivenFlags& given) {
  if (given.has("shift") && given.has("dynamic_shift")) {
    throw InputError("--shift and --dynamic-shift: found both, expected one of them");
  }
  if (given.has("dynamic_shift")) {
    return shift_of_size(config.dynamic_shift);
  }
  check_range("--shift", config.shift, 1e-3, kLargestShift);
  return config.shift;
}

// normal [n] or uniform [n] of the file -> levels [n] float32.
at::Tensor read_levels(const std::string& file, double shift, at::Device device) {
  StageInput input(file);
  if (input.has("normal") == input.has("uniform")) {
    throw InputError(file + ": normal and uniform: found " +
                     (input.has("normal") ? "both" : "neither") + ", expected one of them");
  }
  const char* name = input.has("normal") ? "normal" : "uniform";
  const at::Tensor draws = input.floats(name, "N").to(device, at::kFloat);
  input.warn_of_rest();
  if (input.has("normal")) {
    return logit_normal_sigma(draws, shift);
  }
  if (draws.min().item<double>() < 0 || draws.max().item<double>() > 1) {
    throw InputError(file + ": uniform: found values outside of 0 to 1");
  }
  return shifted_sigma(draws, shift);
}

}  // namespace

void run_stage_noise_levels(const Arguments& arguments, const CancellationToken&) {
  NoiseLevelsStage config;
  const auto given = read_flags("stage noise-levels",
                                "Write the noise levels sigma [n] of a training and their shift "
                                "[1], from draws of a standard normal (normal [n], logit-normal "
                                "levels) or from uniform draws (uniform [n]).",
                                flags_of(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  config.common.check();
  const at::Device device = config.common.compute().device;
  const double shift = chosen_shift(config, *given);
  save_safetensors(config.common.output, {{"sigma", read_levels(config.input, shift, device)},
                                          {"shift", at::full({1}, shift, at::kFloat)}});
}

}  // namespace ospnext
