// The arithmetic of DPM-Solver++ and UniPC for flow matching: steps that use earlier velocities.
//
// Both work with the estimate of the clean latent, clean = latent - sigma·velocity, instead of the
// velocity. If it were constant, the latent would go from level s to level t by
//   latent_t = (t / s)·latent_s + (1 - t / s)·clean,
// which is Euler's step. The second order extrapolates the estimate as a straight line in
// lambda = log((1 - sigma) / sigma), half of the log signal-to-noise ratio. UniPC also corrects:
// when the model has given the velocity at t, the step to t is repeated with it.
// Sources: Lu et al. 2022, DPM-Solver++, arXiv:2211.01095, algorithm 2 (2M); Zhao et al. 2023,
// UniPC, arXiv:2302.04867, the variant B(h) = exp(h) - 1 ("bh2") of order 2; Wan2.1
// wan/utils/fm_solvers*.py.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// In all functions below, tensors have equal shapes, and results are float32 of this shape.

// lambda = log((1 - sigma) / sigma): minus infinity at 1, infinity at 0.
double half_log_snr(double sigma);

// The estimate of the clean latent from latent and velocity at level `sigma`.
at::Tensor clean_estimate(const at::Tensor& latent, const at::Tensor& velocity, double sigma);

// The latent at level `to`, from the latent at level `from` > `to`, if the clean latent is `clean`
// on the whole way.
at::Tensor toward_clean(const at::Tensor& latent, const at::Tensor& clean, double from, double to);

// The average clean estimate between the levels `from` and `to`, extrapolated by the straight line
// in lambda through `earlier` (at level `before`) and `clean` (at level `from`).
// before > from > to > 0.
at::Tensor extrapolated_clean(const at::Tensor& clean, const at::Tensor& earlier, double before,
                              double from, double to);

// The corrected average: it also uses `arrived`, the estimate at level `to`. from > to > 0. First
// order without `earlier`, second order with it.
at::Tensor corrected_clean(const at::Tensor& clean, const at::Tensor& arrived);
at::Tensor corrected_clean(const at::Tensor& clean, const at::Tensor& arrived,
                           const at::Tensor& earlier, double before, double from, double to);

}  // namespace ospnext
