// Linear layers of the transformer: a product, plain or of HiFloat8 codes, plus low-rank adapters.
// Letters: B batch, r rank of an adapter.
#pragma once

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "core/torch/torch.h"
#include "models/execution.h"
#include "parallel/process_group.h"

namespace ospnext {

// An activation x [B, ...] with the largest magnitude of each sample, amax [B] float32, if the
// kernel that made x computed it on the way (kernels/amax.h); else amax is undefined.
struct Measured {
  // NOLINTNEXTLINE(google-explicit-constructor): a plain tensor is an activation without amax.
  Measured(at::Tensor x, at::Tensor amax = {}) : x(std::move(x)), amax(std::move(amax)) {}
  at::Tensor x, amax;
};

// A change of a linear's weight of low rank (LoRA): W + factor · up · down, computed beside the
// product W x, which stays as it is. Source: Hu et al. 2021, arXiv 2106.09685.
struct LowRank {
  at::Tensor down, up;  // [r, in], [out, r] of any floating dtype; they may need gradients
  double factor = 1;    // strength · alpha / r
  double lowest_noise_level = 0;  // it acts on latents with this much noise or more

  // Levels are compared as float32 holds them, like those of a schedule.
  bool acts(const Numerics& numerics) const {
    return static_cast<float>(numerics.noise_level) >= static_cast<float>(lowest_noise_level);
  }
};

// The input of linears that share it: rounded once where their weights are HiFloat8, and multiplied
// once by the `down` of all their adapters that act.
struct LinearInput {
  at::Tensor x;                        // [B, ..., in]
  std::optional<hif8::Input> rounded;  // of x, where weights are HiFloat8 codes
  at::Tensor reduced = {};  // x · downᵀ [B, ..., sum of r], for linears whose adapters act
};

// x Wᵀ + b in x's dtype, plus the adapters' products; weight and bias are cast to it if needed. New
// parameters are not initialised: load them or call TransformerImpl::reset_parameters().
struct LinearImpl : torch::nn::Module {
  LinearImpl(int64_t in, int64_t out, at::TensorOptions options);

  // The input of this linear alone. For HiFloat8, x.amax is that of whole samples, over all ranks
  // that hold parts of them; undefined means that x holds whole samples.
  LinearInput prepare(const Measured& x, const Numerics& numerics) const;
  // in [B, ..., in] -> [B, ..., out], added to `residual` if that has an x.
  // The adapters' products are summed with the residual first, so that the large product adds to
  // them in its epilogue.
  at::Tensor forward(const LinearInput& in, const Numerics& numerics,
                     const Residual& residual = {}) const;
  // The GELU (tanh approximation) of forward(), in the product's epilogue where there is one.
  at::Tensor forward_gelu(const LinearInput& in, const Execution& run) const;
  // prepare() and forward().
  at::Tensor operator()(const Measured& x, const Numerics& numerics,
                        const Residual& residual = {}) const {
    return forward(prepare(x, numerics), numerics, residual);
  }

  // Whether an adapter takes part.
  bool is_adapted(const Numerics& numerics) const;
  // Whether the product runs on FP8 tensor cores, which need the amax of the input.
  bool on_fp8(const Numerics& numerics) const {
    return hif8_scale.has_value() && numerics.hif8.tensor_cores();
  }

  at::Tensor weight, bias;  // [out, in], [out]
  // Set where the weight is HiFloat8: the scale of its codes. `weight` then holds the codes'
  // values, not divided by the scale, or hif8::fp8_weight() of them for tensor cores.
  // round_to_hif8() (transformer_hif8.h) sets this up.
  std::optional<float> hif8_scale;
  std::vector<LowRank> adapters;  // not among the module's parameters
};
TORCH_MODULE(Linear);

// The amax of each sample of several tensors, [B] each. With several ranks, which hold parts of the
// samples, one all-reduce takes the maxima over all ranks. With one rank, the result is the amax
// that comes with each tensor. It may be undefined: the function that needs it then computes it.
std::vector<at::Tensor> joined_amax(const ProcessGroup& ranks, const std::vector<Measured>& parts);
// The input of `linear` with the amax of whole samples, if its weight is HiFloat8.
Measured joined(const ProcessGroup& ranks, const Measured& x, const LinearImpl& linear);

// The input x of several linears, as LinearInput for each of them.
std::vector<LinearInput> prepare_shared(const Measured& x, const Numerics& numerics,
                                        const std::vector<const LinearImpl*>& linears);

// Applies several linears to one input, without a residual. `overwrite` as in Execution.
template <class... Linears>
std::array<at::Tensor, sizeof...(Linears)> project(const Measured& x, const Execution& run,
                                                   const Linears&... linears) {
  const std::vector<LinearInput> inputs = prepare_shared(x, run.numerics, {linears.get()...});
  const Residual none{.overwrite = run.overwrite};
  size_t i = 0;
  return {linears->forward(inputs[i++], run.numerics, none)...};
}

enum class Activation { kGeluTanh, kSilu };

}  // namespace ospnext
