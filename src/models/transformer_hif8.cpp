#include "models/transformer_hif8.h"

#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"
#include "quant/hif8_weights.h"

namespace ospnext {

void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding,
                   const std::map<std::string, float>& weight_scales) {
  for (const auto& item : transformer->named_modules("", /*include_self=*/false)) {
    const std::string weight = item.key() + ".weight";
    if (auto* linear = item.value()->as<LinearImpl>();
        linear != nullptr && rounding.linears && hif8::is_rounded_weight(weight)) {
      const auto scale = weight_scales.find(weight);
      TORCH_CHECK(scale != weight_scales.end(), weight, ": its HiF8 scale is not given");
      linear->hif8_scale = scale->second;
      if (rounding.tensor_cores() && linear->weight.scalar_type() != at::kFloat8_e4m3fn) {
        linear->weight.set_data(hif8::fp8_weight(linear->weight));
      }
    }
  }
  Numerics numerics = transformer->numerics();
  numerics.hif8 = rounding;
  transformer->set_numerics(numerics);
}

void round_to_hif8(Transformer& transformer, const Hif8Rounding& rounding) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, float> scales;
  for (auto& item : transformer->named_parameters()) {
    if (rounding.linears && hif8::is_rounded_weight(item.key())) {
      const at::Tensor weight = item.value().to(at::kFloat);
      const at::Tensor scale = hif8::scale_to(rounding.amax_to, hif8::amax_of_tensor(weight));
      item.value().copy_(hif8::code_values(weight, scale));
      scales[item.key()] = scale.item<float>();
    }
  }
  round_to_hif8(transformer, rounding, scales);
}

}  // namespace ospnext
