// The linear layers of a block, compared with their bare matrix products.
#include "bench/cases.h"
#include "core/torch/random.h"
#include "kernels/residual.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

// One linear layer, in the model's precision, on a fixed input of L rows.
struct Layer {
  std::function<at::Tensor()> product;  // without bias; [L, out]
  // With bias, and with a residual [1, L, out] where one is given.
  std::function<at::Tensor(const Residual&)> linear;
  // With bias and GELU. Empty if GELU is part of the rounding of the next layer's input.
  std::function<at::Tensor()> gelu;
};

Layer plain_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return {.product = [=] { return at::mm(x, weight.t()); },  // [L, out]
          .linear =
              [=](const Residual& residual) {
                return linear(residual, x.unsqueeze(0), weight, bias,
                              Epilogue::kFused);  // [1, L, out]
              },
          .gelu =
              [=] {
                return linear_gelu(x, weight, bias, Epilogue::kFused);  // [L, out]
              }};
}

Layer simulated_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor scale = hif8::scale_to(hif8::kForwardAmax, hif8::amax_of_tensor(weight));
  const at::Tensor values = hif8::code_values(weight, scale);
  const at::Tensor sample = x.unsqueeze(0);  // [1, L, in]
  const auto factor = scale.item<float>();
  const auto linear = [=](const Residual& residual) {
    return hif8::linear(hif8::round_input(sample, hif8::kForwardAmax, hif8::Products::kSimulated),
                        values, factor, bias, Epilogue::kFused, residual);  // [1, L, out]
  };
  return {.product = [=] { return at::mm(x, values.t()); },  // [L, out]
          .linear = linear,
          .gelu = [=] { return at::gelu(linear({}), "tanh"); }};
}

Layer fp8_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor scale = hif8::scale_to(hif8::kForwardAmax, hif8::amax_of_tensor(weight));
  const at::Tensor codes = hif8::fp8_weight(hif8::code_values(weight, scale));
  const hif8::Input input = hif8::round_input(x.unsqueeze(0), hif8::kForwardAmax,
                                              hif8::Products::kTensorCores);  // [1, L, in]
  const auto factor = scale.item<float>();
  const at::Tensor one = at::ones({}, x.options().dtype(at::kFloat));
  const auto linear = [=](const Residual& residual) {
    return hif8::linear(input, codes, factor, bias, Epilogue::kFused, residual);
  };
  return {.product =
              [=] {
                return at::_scaled_mm(input.codes[0], codes.t(), one, one, {}, {},
                                      input.x.scalar_type(),
                                      /*use_fast_accum=*/false);  // [L, out]
              },
          .linear = linear,
          .gelu = {}};
}

Layer layer_of(const ComputeOptions& compute, const at::Tensor& x, const at::Tensor& weight,
               const at::Tensor& bias) {
  if (compute.hif8 == Hif8Use::kSimulated) {
    return simulated_layer(x, weight, bias);
  }
  return compute.on_fp8_tensor_cores() ? fp8_layer(x, weight, bias) : plain_layer(x, weight, bias);
}

// A linear layer of the block: input [L, in], weight [out, in].
struct LayerShape {
  const char* name;
  int64_t L, in, out;

  bool into_ffn() const { return in < out; }
  bool out_of_ffn() const { return in > out; }
};

at::Tensor draw(at::IntArrayRef shape, const ComputeOptions& compute) {
  return at::randn(shape, seeded_generator(compute.device, 0, "bench"),
                   at::TensorOptions().device(compute.device).dtype(compute.dtype));
}

// A case that runs the product with `ours` as its epilogue, compared with the bare product.
BenchCase with_epilogue(const BenchCase& product, const std::string& name,
                        std::function<void()> ours, double extra_bytes) {
  return {.name = name,
          .flops = product.flops,
          .bytes = product.bytes + extra_bytes,
          .ours = std::move(ours),
          .bare = product.ours,
          .extra_bytes = extra_bytes};
}

// The cast of a layer's input to E4M3. `operand`: bytes per element of the result.
BenchCase cast_case(const LayerShape& shape, const at::Tensor& x, double operand) {
  const bool after_gelu = shape.out_of_ffn();
  const auto width = static_cast<double>(x.element_size());
  return {
      .name = after_gelu ? "  GELU, amax and cast of the input" : "  amax and cast of the input",
      .bytes = (2 * width + operand) * static_cast<double>(shape.L * shape.in),
      .ours = [sample = x.unsqueeze(0), after_gelu] {  // [1, L, in]
        hif8::round_input(sample, hif8::kForwardAmax, hif8::Products::kTensorCores, {},
                          after_gelu ? hif8::Of::kGelu : hif8::Of::kItself);
      }};
}

std::vector<BenchCase> layer_cases(const LayerShape& shape, const ComputeOptions& compute) {
  const auto [name, L, in, out] = shape;
  const at::Tensor x = draw({L, in}, compute), weight = draw({out, in}, compute),
                   bias = draw({out}, compute);
  const Layer layer = layer_of(compute, x, weight, bias);
  const auto width = static_cast<double>(x.element_size());
  const double operand = compute.on_fp8_tensor_cores() ? 1 : width;
  const BenchCase product{
      .name = std::string("product, ") + name,
      .flops = 2.0 * static_cast<double>(L) * static_cast<double>(in * out),
      .bytes = operand * static_cast<double>((L + out) * in) + width * static_cast<double>(L * out),
      .ours = layer.product};
  const auto bias_bytes = static_cast<double>(bias.nbytes());
  std::vector<BenchCase> cases = {product};
  cases.push_back(with_epilogue(
      product, "  + bias", [layer] { layer.linear({.overwrite = true}); }, bias_bytes));
  if (shape.into_ffn() && layer.gelu) {
    cases.push_back(with_epilogue(product, "  + bias + GELU", layer.gelu, bias_bytes));
  }
  if (!shape.into_ffn()) {
    const at::Tensor residual = draw({1, L, out}, compute);
    const at::Tensor gate = draw({1, 1, out}, compute).to(at::kFloat);
    const double residual_bytes = bias_bytes + static_cast<double>(residual.nbytes());
    const double gated_bytes = residual_bytes + static_cast<double>(gate.nbytes());
    const auto add = [=] { layer.linear({residual, {}, /*overwrite=*/true}); };
    const auto add_gated = [=] { layer.linear({residual, gate, /*overwrite=*/true}); };
    cases.push_back(with_epilogue(product, "  + bias + residual", add, residual_bytes));
    cases.push_back(with_epilogue(product, "  + bias + gated residual", add_gated, gated_bytes));
  }
  if (compute.on_fp8_tensor_cores()) {
    cases.push_back(cast_case(shape, x, operand));
  }
  return cases;
}

}  // namespace

std::vector<BenchCase> gemm_cases(const BenchModel& model) {
  const int64_t L = model.grid().tokens(), C = model.transformer.dim, F = model.transformer.ffn_dim;
  std::vector<BenchCase> cases;
  for (const LayerShape& shape : {LayerShape{"q, k, v or o", L, C, C},
                                  LayerShape{"ffn in", L, C, F}, LayerShape{"ffn out", L, F, C}}) {
    std::ranges::move(layer_cases(shape, model.compute), std::back_inserter(cases));
  }
  return cases;
}

}  // namespace ospnext
