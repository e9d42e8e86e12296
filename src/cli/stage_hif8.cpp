// ospnext stage hif8: converts numbers to HiFloat8 codes and back to values.
#include <cmath>

#include "cli/stage.h"
#include "cli/stage_files.h"
#include "core/error.h"
#include "core/number_check.h"
#include "io/weights.h"
#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

struct Hif8Stage {
  std::string input;
  double amax_to = 0;
  bool saturate = false;
  StageOutput common;

  template <class Visitor>
  void visit(Visitor&& field) {
    field("input", input, "safetensors with x float32, of any shape");
    field("amax_to", amax_to,
          "scale x so that its largest magnitude becomes this, such as 15 (not given: not scaled)");
    field("saturate", saturate,
          "overflow to the largest value and NaN to 0, not to infinity and NaN");
    common.visit(field);
  }
};

// x, stored as float32, bf16 or float16, as float32. Throws InputError for another dtype, and for
// NaN or infinite values if `scaled`.
at::Tensor read_x(const Hif8Stage& config, bool scaled) {
  StageInput input(config.input);
  const at::Tensor x = input.raw("x", "...");
  input.warn_of_rest();
  if (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16 &&
      x.scalar_type() != at::kHalf) {
    throw InputError(config.input + ": x: found " + std::string(x.dtype().name()) +
                     ", expected float32");
  }
  if (scaled && !torch::isfinite(x).all().item<bool>()) {
    throw InputError(config.input +
                     ": x: holds NaN or infinite values, which --amax-to cannot scale");
  }
  return x.to(config.common.compute().device, at::kFloat);
}

}  // namespace

void run_stage_hif8(const Arguments& arguments, const CancellationToken& cancel) {
  const torch::NoGradGuard no_grad;
  Hif8Stage config;
  const auto given =
      read_flags("stage hif8",
                 "Round x to HiFloat8: codes uint8 and values float32 of x's shape. With --amax-to "
                 "also scale [], the codes are of x * scale and the values divided by it.",
                 flags_of(config), arguments);
  if (!given) {
    return;
  }
  given->apply(config);
  config.common.check();
  config.common.compute();
  const bool scaled = given->has("amax_to");
  if (scaled) {
    check_range("--amax-to", config.amax_to, std::ldexp(1.0, -15), std::ldexp(1.0, 15));
  }
  const at::Tensor x = read_x(config, scaled);
  cancel.check();
  const at::Tensor scale =
      scaled ? hif8::scale_to(config.amax_to, hif8::amax_of_tensor(x)) : at::Tensor();
  const auto overflow = config.saturate ? hif8::Overflow::kSaturate : hif8::Overflow::kInfinity;
  const at::Tensor codes = hif8::encode(x, scale, overflow);
  std::map<std::string, at::Tensor> result = {{"codes", codes},
                                              {"values", hif8::decode(codes, scale)}};
  if (scaled) {
    result["scale"] = scale;
  }
  save_safetensors(config.common.output, result);
}

}  // namespace ospnext
