#include "quant/hif8_linear.h"

#include "core/torch/shape_check.h"
#include "quant/e4m3.h"
#include "quant/hif8_tensors.h"
#ifdef OSPNEXT_CUDA
#include <ATen/cuda/CUDAContext.h>

#include "kernels/cublas_lt.h"
#endif

namespace ospnext::hif8 {
namespace {

constexpr float kShifted =
    1 << e4m3::kForwardShift;  // factor between E4M3 operands and the codes' values

// scale [B] -> [B, 1, ...], to broadcast with x [B, ...].
at::Tensor beside(const at::Tensor& scale, const at::Tensor& x) {
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  return scale.view(shape);  // [B, 1, ...]
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight_values, float weight_scale,
                  const at::Tensor& bias, double amax_to, const at::Tensor& amax) {
  const at::Tensor scale = scale_of_samples(x, amax_to, amax);  // [B]
  const at::Tensor product =
      at::linear(code_values(x, scale), weight_values.to(x.scalar_type()));  // [B, ..., out]
  const at::Tensor factor = beside((scale * weight_scale).reciprocal(), x);  // [B, 1, ...]
  at::Tensor out = at::empty_like(product);
  return at::addcmul_out(out, bias.to(at::kFloat), product, factor);  // in float32, rounded once
}

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

Fp8Input fp8_input(const at::Tensor& x, double amax_to, const at::Tensor& amax) {
  const at::Tensor scale = scale_of_samples(x, amax_to, amax);  // [B]
  return {encode_e4m3(x, scale), scale * kShifted, x.scalar_type()};
}

Fp8Input fp8_input_of_gelu(const at::Tensor& x, double amax_to, const at::Tensor& amax) {
  const at::Tensor scale = scale_of_samples(x, amax_to, amax, Of::kGelu);  // [B]
  return {encode_e4m3(x, scale, Of::kGelu), scale * kShifted, x.scalar_type()};
}

at::Tensor fp8_linear(const Fp8Input& x, const at::Tensor& weight, float weight_scale,
                      const at::Tensor& bias, const Residual& residual) {
  const int64_t B = x.codes.size(0), in = x.codes.size(-1), out = weight.size(0);
  CHECK_SHAPE(weight, out, in);
  std::vector<int64_t> shape = x.codes.sizes().vec();
  shape.back() = out;
  bool adds = false;  // in the product's epilogue
#ifdef OSPNEXT_CUDA
  const bool on_lt = x.codes.is_cuda() && x.dtype == at::kBFloat16;
  adds = on_lt && residual.x.defined() && !residual.gate.defined() && !at::GradMode::is_enabled();
#endif
  at::Tensor y =
      adds ? residual.x.contiguous() : at::empty(shape, x.codes.options().dtype(x.dtype));
  if (y.numel() == 0) {
    return y;
  }
  constexpr int64_t kAligned = 4;  // floats: cuBLAS needs scales at multiples of 16 bytes
  const at::Tensor factor = x.scale.reciprocal().unsqueeze(1).repeat({1, kAligned});  // [B, 4]
  const float weight_factor = 1 / (kShifted * weight_scale);
  const at::Tensor bias_as_y = bias.to(x.dtype);
#ifdef OSPNEXT_CUDA
  if (on_lt) {
    const auto rows = [&](const at::Tensor& of_samples, int64_t b) {
      return of_samples[b].view({-1, of_samples.size(-1)});  // [rows, in or out]
    };
    for (int64_t b = 0; b < B; ++b) {  // one product per sample: a product has one scale of x
      cuda::lt_product(rows(y, b), {.x = rows(x.codes, b),
                                    .weight = weight,
                                    .bias = bias_as_y,
                                    .x_scale = factor[b],
                                    .weight_scale = weight_factor,
                                    .adds = adds});
    }
    return adds ? y : add_branch(residual, y);
  }
#endif
  const at::Tensor of_weight = at::full({}, weight_factor, factor.options());
  for (int64_t b = 0; b < B; ++b) {
    at::Tensor rows = y[b].view({-1, out});  // [rows, out]
    at::_scaled_mm_out(rows, x.codes[b].view({-1, in}), weight.t(), /*scale_a=*/factor[b][0],
                       /*scale_b=*/of_weight, bias_as_y, /*scale_result=*/{}, x.dtype,
                       /*use_fast_accum=*/false);  // [rows, in] x [in, out] -> [rows, out]
  }
  return add_branch(residual, y);
}

}  // namespace ospnext::hif8
