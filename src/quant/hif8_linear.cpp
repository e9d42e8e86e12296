#include "quant/hif8_linear.h"

#include <torch/autograd.h>

#include <optional>

#include "core/torch/if_defined.h"
#include "core/torch/shape_check.h"
#include "quant/e4m3.h"
#include "quant/hif8_tensors.h"
#ifdef OSPNEXT_CUDA
#include <ATen/cuda/CUDAContext.h>

#include "kernels/cublas_lt.h"
#endif

namespace ospnext::hif8 {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr float kShifted =
    1 << e4m3::kForwardShift;  // factor between E4M3 operands and the codes' values

// scale [B] -> [B, 1, ...], to broadcast with x [B, ...].
at::Tensor beside(const at::Tensor& scale, const at::Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  return scale.view(shape);  // [B, 1, ...]
}

// A layer's operands.
struct Layer {
  const Input& in;
  const at::Tensor& weight;
  float weight_scale;
  Epilogue epilogue;
};

at::Tensor simulated(const Layer& layer, const at::Tensor& bias, const Residual& residual) {
  const at::Tensor product =
      at::linear(layer.in.codes, layer.weight.to(layer.in.codes.scalar_type()));  // [B, ..., out]
  const at::Tensor factor =
      beside((layer.in.scale * layer.weight_scale).reciprocal(), product);  // [B, 1, ...]
  at::Tensor out = at::empty_like(product);
  at::addcmul_out(out, bias.to(at::kFloat), product, factor);  // in float32, rounded once
  return add_branch(residual, out);
}

#ifdef OSPNEXT_CUDA
// Whether one product takes all samples, with a scale for each row. Samples of few rows would wait
// for the launches of their products; those of many rows are faster with one scale each.
bool in_one_product(const Input& in) {
  constexpr int64_t kFewRows = 4096;
  return in.codes.size(0) > 1 && in.codes[0].numel() < kFewRows * in.codes.size(-1);
}

// Products of cuBLASLt. bf16 alone.
at::Tensor by_lt(const Layer& layer, float weight_factor, const at::Tensor& bias,
                 const Residual& residual) {
  const Input& in = layer.in;
  const bool adds =
      layer.epilogue == Epilogue::kFused && residual.x.defined() && !residual.gate.defined();
  std::vector<int64_t> shape = in.codes.sizes().vec();
  shape.back() = layer.weight.size(0);
  at::Tensor y = !adds                ? at::empty(shape, in.x.options())
                 : residual.overwrite ? residual.x.contiguous()
                                      : residual.x.clone(at::MemoryFormat::Contiguous);
  if (y.numel() > 0) {
    const at::Tensor rounded_bias = bias.to(at::kBFloat16);
    const auto product = [&](const at::Tensor& codes, const at::Tensor& scale, at::Tensor out) {
      const at::Tensor rows = codes.view({-1, codes.size(-1)});  // [rows, in]
      out = out.view({-1, out.size(-1)});                        // [rows, out]
      cuda::lt_product(out, {.x = rows,
                             .weight = layer.weight,
                             .bias = rounded_bias,
                             .x_scale = scale,
                             .weight_scale = weight_factor,
                             .adds = adds});
    };
    const int64_t B = in.codes.size(0);
    if (in_one_product(in)) {
      const int64_t rows = in.codes[0].numel() / in.codes.size(-1);  // of a sample
      const at::Tensor scales = in.inverse.narrow(1, 0, 1).expand({B, rows}).flatten();  // [B·rows]
      product(in.codes, scales, y);
    } else {
      for (int64_t b = 0; b < B; ++b) {
        product(in.codes[b], in.inverse[b].narrow(0, 0, 1), y[b]);
      }
    }
  }
  return adds ? y : add_branch(residual, y);
}
#endif

at::Tensor on_tensor_cores(const Layer& layer, const at::Tensor& bias, const Residual& residual) {
  const Input& in = layer.in;
  const int64_t B = in.codes.size(0), width = in.codes.size(-1), out = layer.weight.size(0);
  const auto dtype = in.x.scalar_type();
  const float weight_factor = 1 / (kShifted * layer.weight_scale);
#ifdef OSPNEXT_CUDA
  if (in.codes.is_cuda() && dtype == at::kBFloat16) {
    return by_lt(layer, weight_factor, bias, residual);
  }
#endif
  std::vector<int64_t> shape = in.codes.sizes().vec();
  shape.back() = out;
  const at::Tensor y = at::empty(shape, in.x.options());
  if (y.numel() == 0) {
    return y;
  }
  const at::Tensor of_weight = at::full({}, weight_factor, in.inverse.options());
  for (int64_t b = 0; b < B; ++b) {
    at::Tensor rows = y[b].view({-1, out});  // [rows, out]
    at::_scaled_mm_out(rows, in.codes[b].view({-1, width}), layer.weight.t(),
                       /*scale_a=*/in.inverse[b][0], /*scale_b=*/of_weight, bias.to(dtype),
                       /*scale_result=*/{}, dtype,
                       /*use_fast_accum=*/false);  // [rows, in] x [in, out] -> [rows, out]
  }
  return add_branch(residual, y);
}

at::Tensor computed(const Layer& layer, const at::Tensor& bias, const Residual& residual) {
  CHECK_SHAPE(layer.weight, layer.weight.size(0), layer.in.codes.size(-1));
  return layer.in.fp8 ? on_tensor_cores(layer, bias, residual) : simulated(layer, bias, residual);
}

// The values that codes stand for, in `dtype`. scale: [B, 1, ...] or a number, their factor in the
// codes.
template <class Scale>
at::Tensor represented(const at::Tensor& codes, const Scale& scale, at::ScalarType dtype) {
  return codes.to(at::kFloat).div(scale).to(dtype);
}

// computed() with the gradient of the layer of the represented values.
struct StraightThrough : torch::autograd::Function<StraightThrough> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& bias,
                            const std::optional<at::Tensor>& residual,
                            const std::optional<at::Tensor>& gate, const Layer& layer) {
    const bool keeps_x = layer.in.of == Of::kGelu;
    context->save_for_backward({keeps_x ? x : at::Tensor(), layer.in.codes, layer.in.scale,
                                layer.weight, bias, gate.value_or(at::Tensor())});
    context->saved_data["has_residual"] = residual.has_value();
    context->saved_data["weight_scale"] =
        static_cast<double>(layer.in.fp8 ? kShifted * layer.weight_scale : layer.weight_scale);
    return computed(layer, bias, {residual.value_or(at::Tensor()), gate.value_or(at::Tensor())});
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &codes = saved[1], &scale = saved[2], &bias = saved[4],
                     &gate = saved[5];
    const at::Tensor& grad = gradients[0];  // [B, ..., out]
    const at::Tensor weight =
        represented(saved[3], context->saved_data["weight_scale"].toDouble(), grad.scalar_type());
    const at::Tensor by_branch = gate.defined() ? (grad * gate).to(grad.scalar_type()) : grad;
    at::Tensor by_x, by_bias, by_gate;
    if (context->needs_input_grad(0)) {
      const at::Tensor by_input = at::matmul(by_branch, weight);  // [B, ..., in]
      by_x = x.defined() ? at::gelu_backward(by_input, x, "tanh") : by_input;
    }
    if (context->needs_input_grad(1)) {
      by_bias = by_branch.flatten(0, -2).sum(0).to(bias.scalar_type());  // [out]
    }
    if (gate.defined() && context->needs_input_grad(3)) {
      const at::Tensor input =
          represented(codes, beside(scale, codes), grad.scalar_type());  // [B, L, in]
      const at::Tensor product =
          grad * at::linear(input, weight, bias.to(grad.scalar_type()));  // [B, L, out]
      by_gate = gate.size(1) == 1 ? product.sum(1, /*keepdim=*/true, at::kFloat)
                                  : product.to(at::kFloat);  // [B, 1 or L, out]
    }
    const bool has_residual = context->saved_data["has_residual"].toBool();
    return {by_x, by_bias, has_residual ? grad : at::Tensor(), by_gate, {}};
  }
};

}  // namespace

bool has_fp8_tensor_cores([[maybe_unused]] const at::Device& device) {
#ifdef OSPNEXT_CUDA
  if (device.is_cuda()) {
    const cudaDeviceProp* properties = at::cuda::getDeviceProperties(
        device.has_index() ? device.index() : c10::cuda::current_device());
    return properties->major * 10 + properties->minor >= 89;
  }
#endif
  return false;
}

at::Tensor fp8_weight(const at::Tensor& weight_values) {
  return (weight_values.to(at::kFloat) * kShifted).to(at::kFloat8_e4m3fn);
}

Input round_input(const at::Tensor& x, double amax_to, Products products, const at::Tensor& amax,
                  Of of) {
  const torch::NoGradGuard no_grad;
  const at::Tensor known = amax.defined() ? amax : amax_of_samples(x, of);  // [B]
  if (products == Products::kSimulated) {
    TORCH_CHECK(of == Of::kItself, "round_input: the GELU is rounded for tensor cores only");
    const at::Tensor scale = scale_to(amax_to, known);  // [B]
    return {x, code_values(x, scale), scale, /*inverse=*/{}, of, /*fp8=*/false};
  }
  const at::Tensor inverse = at::empty({x.size(0), 4}, known.options());  // [B, 4]
  const at::Tensor scale = scale_to(kShifted * amax_to, known, inverse);  // [B]
  return {x, encode_e4m3(x, scale, of), scale, inverse, of, /*fp8=*/true};
}

at::Tensor linear(const Input& in, const at::Tensor& weight, float weight_scale,
                  const at::Tensor& bias, Epilogue epilogue, const Residual& residual) {
  const Layer layer{in, weight, weight_scale, epilogue};
  if (residual.overwrite) {
    return computed(layer, bias, residual);
  }
  return StraightThrough::apply(in.x, bias, if_defined(residual.x), if_defined(residual.gate),
                                layer);
}

}  // namespace ospnext::hif8
