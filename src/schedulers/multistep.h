// The arithmetic of DPM-Solver++ and UniPC for flow matching: steps that remember earlier velocities.
//
// Both follow the estimate of the clean latent, clean = latent - sigma * velocity, instead of the
// velocity. Were it constant, the latent would go from level s to level t by
//   latent_t = (t / s) * latent_s + (1 - t / s) * clean,
// which is Euler's step. Second order lets it move on in a straight line of
// lambda = log((1 - sigma) / sigma), half of the log signal-to-noise ratio. UniPC then looks back: once the model has
// been asked at t, the step to t is done again with what it said there.
// Sources: Lu et al. 2022, DPM-Solver++, arXiv:2211.01095, algorithm 2 (2M); Zhao et al. 2023,
// UniPC, arXiv:2302.04867, the variant B(h) = exp(h) - 1 ("bh2") of order 2; Wan2.1
// wan/utils/fm_solvers*.py.
#pragma once

#include "core/torch/torch.h"

namespace ospnext {

// log((1 - sigma) / sigma): minus infinity at 1, infinity at 0.
double half_log_snr(double sigma);

// The estimate of the clean latent that the velocity at level `sigma` means. Any shape -> float32.
at::Tensor clean_estimate(const at::Tensor& latent, const at::Tensor& velocity, double sigma);

// The latent at level `to` when the clean latent is `clean` all the way from level `from` > `to`.
at::Tensor toward_clean(const at::Tensor& latent, const at::Tensor& clean, double from, double to);

// What the clean estimate is like, on average, on the way from `from` to `to`, by the straight line in
// lambda through `earlier` (at level `before`) and `clean` (at level `from`). before > from > to > 0.
at::Tensor extrapolated_clean(const at::Tensor& clean, const at::Tensor& earlier, double before,
                              double from, double to);

// The same with hindsight: `arrived` is the estimate at level `to`, from > to > 0. First order, or, with
// `earlier`, second.
at::Tensor corrected_clean(const at::Tensor& clean, const at::Tensor& arrived);
at::Tensor corrected_clean(const at::Tensor& clean, const at::Tensor& arrived,
                           const at::Tensor& earlier, double before, double from, double to);

}  // namespace ospnext
