// The linear layers of a block, beside what their matrix products alone take.
#include "bench/cases.h"
#include "core/torch/random.h"
#include "kernels/residual.h"
#include "quant/hif8_linear.h"
#include "quant/hif8_tensors.h"

namespace ospnext {
namespace {

// A linear layer of the model's precision on a fixed input of L rows.
struct Layer {
  std::function<at::Tensor()> product;                // without bias; [L, out]
  std::function<at::Tensor(const Residual&)> linear;  // with it, added to [1, L, out] or to nothing
  std::function<at::Tensor()>
      gelu;  // and with GELU behind; none where that is part of the next input's rounding
};

Layer plain_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return {
      .product = [=] { return at::mm(x, weight.t()); },
      .linear =
          [=](const Residual& residual) { return linear(residual, x.unsqueeze(0), weight, bias); },
      .gelu =
          [=] {
            return x.is_cuda() ? at::_addmm_activation(bias, x, weight.t(), 1, 1, true)
                               : at::gelu(at::linear(x, weight, bias), "tanh");
          }};
}

Layer simulated_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor scale = hif8::scale_to(hif8::kForwardAmax, hif8::amax_of_tensor(weight));
  const at::Tensor values = hif8::code_values(weight, scale);
  const at::Tensor sample = x.unsqueeze(0);  // [1, L, in]
  const auto factor = scale.item<float>();
  const auto linear = [=](const Residual& residual) {
    return add_branch(residual, hif8::linear(sample, values, factor, bias, hif8::kForwardAmax));
  };
  return {.product = [=] { return at::mm(x, values.t()); },
          .linear = linear,
          .gelu = [=] { return at::gelu(linear({}), "tanh"); }};
}

Layer fp8_layer(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const at::Tensor scale = hif8::scale_to(hif8::kForwardAmax, hif8::amax_of_tensor(weight));
  const at::Tensor codes = hif8::fp8_weight(hif8::code_values(weight, scale));
  const hif8::Fp8Input input = hif8::fp8_input(x.unsqueeze(0), hif8::kForwardAmax);
  const auto factor = scale.item<float>();
  const at::Tensor one = at::ones({}, x.options().dtype(at::kFloat));
  const auto linear = [=](const Residual& residual) {
    return hif8::fp8_linear(input, codes, factor, bias, residual);
  };
  return {.product =
              [=] {
                return at::_scaled_mm(input.codes[0], codes.t(), one, one, {}, {}, input.dtype,
                                      /*use_fast_accum=*/false);
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

}  // namespace

std::vector<BenchCase> gemm_cases(const BenchModel& model) {
  const ComputeOptions& compute = model.compute;
  const int64_t L = model.grid().tokens(), C = model.transformer.dim, F = model.transformer.ffn_dim;
  const auto draw = [&](at::IntArrayRef shape) {
    return at::randn(shape, seeded_generator(compute.device, 0, "bench"),
                     at::TensorOptions().device(compute.device).dtype(compute.dtype));
  };
  std::vector<BenchCase> cases;
  const auto add = [&](const std::string& name, int64_t in, int64_t out) {
    const at::Tensor x = draw({L, in}), weight = draw({out, in}), bias = draw({out});
    const Layer layer = layer_of(compute, x, weight, bias);
    const double width = static_cast<double>(x.element_size());
    const double operand = compute.on_fp8_tensor_cores() ? 1 : width;
    const BenchCase product{.name = "product, " + name,
                            .flops = 2.0 * static_cast<double>(L) * static_cast<double>(in * out),
                            .bytes = operand * static_cast<double>((L + out) * in) +
                                     width * static_cast<double>(L * out),
                            .ours = layer.product};
    cases.push_back(product);
    const auto add_epilogue = [&](const std::string& what, std::function<void()> ours,
                                  double extra_bytes) {
      cases.push_back({.name = what,
                       .flops = product.flops,
                       .bytes = product.bytes + extra_bytes,
                       .ours = std::move(ours),
                       .bare = layer.product,
                       .extra_bytes = extra_bytes});
    };
    const double bias_bytes = static_cast<double>(bias.nbytes());
    add_epilogue(
        "  + bias", [=] { layer.linear({}); }, bias_bytes);
    const bool into_ffn = in<out, out_of_ffn = in> out;
    if (into_ffn && layer.gelu) {
      add_epilogue("  + bias + GELU", layer.gelu, bias_bytes);
    }
    if (!into_ffn) {
      const at::Tensor residual = draw({1, L, out});
      const at::Tensor gate = draw({1, 1, out}).to(at::kFloat);
      const auto residual_bytes = bias_bytes + static_cast<double>(residual.nbytes());
      add_epilogue(
          "  + bias + residual", [=] { layer.linear({residual}); }, residual_bytes);
      add_epilogue(
          "  + bias + gated residual",
          [=] {
            layer.linear({residual, gate});
          },
          residual_bytes + static_cast<double>(gate.nbytes()));
    }
    if (compute.on_fp8_tensor_cores()) {
      cases.push_back({.name = out_of_ffn ? "  GELU, amax and cast of the input"
                                          : "  amax and cast of the input",
                       .bytes = (2 * width + operand) * static_cast<double>(L * in),
                       .ours = [sample = x.unsqueeze(0), out_of_ffn] {
                         out_of_ffn ? hif8::fp8_input_of_gelu(sample, hif8::kForwardAmax)
                                    : hif8::fp8_input(sample, hif8::kForwardAmax);
                       }});
    }
  };
  add("q, k, v or o", C, C);
  add("ffn in", C, F);
  add("ffn out", F, C);
  return cases;
}

}  // namespace ospnext
