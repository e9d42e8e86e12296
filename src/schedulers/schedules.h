// The noise levels of a sampling run of N steps, and the timesteps that the model gets as input.
//
// Levels are computed in float64 with the same operations as in the reference, because Wan's and
// diffusers' UniPC truncate timesteps to whole numbers: the last bit can decide between 973 and
// 972.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

struct Schedule {
  at::Tensor sigmas;     // [N + 1] float32, decreasing; the last one is 0
  at::Tensor timesteps;  // [N] float32: the model's time input at each step
};

// s·sigma / (1 + (s - 1)·sigma), elementwise, where s is the shift. With s > 1 more steps are at
// high noise levels; 0 and 1 do not change. sigma: any shape and float type.
at::Tensor shifted_sigma(const at::Tensor& sigma, double shift);

// OSP-Next's shift for training on latents of height × width (rows and columns of the latent, not
// of pixels): e^(k·n + b), where n = floor(height·width/4) counts the tokens of a frame, and the
// line k·n + b goes through (256, 0.5) and (4096, 1.15). 90 × 160 (720P) gives 2.904.
// Source: OSP-Next ospnext/schedulers/flow_matching.py (use_dynamic_shifting).
double dynamic_shift(int64_t height, int64_t width);

// Noise levels for training: the sigmoid of draws of a standard normal, shifted. normal: any shape
// and float type -> same shape and type. Uniform draws are levels themselves, before the shift.
// Source: OSP-Next ospnext/schedulers/flow_matching.py (use_logitnorm_time_sampling); Esser et al.
// 2024, arXiv 2403.03206, section 3.1.
at::Tensor logit_normal_sigma(const at::Tensor& normal, double shift);

// The following functions return the levels [N] of N = `steps` steps, without the 0 at the end.
// euler_levels() returns float32, the others float64.

// OSP-Next: N even steps from 1 to 0, shifted, all in float32.
// Source: OSP-Next flow_matching scheduler.
at::Tensor euler_levels(int64_t steps, double shift);
// Wan's UniPC: N even steps from float32(0.999) to 0, shifted.
// Source: Wan2.1 wan/utils/fm_solvers_unipc.py:FlowUniPCMultistepScheduler.
at::Tensor unipc_levels(int64_t steps, double shift);
// Wan's DPM++: N even steps from 1 to 0, shifted. Source: Wan2.1 wan/utils/fm_solvers.py.
at::Tensor dpm_levels(int64_t steps, double shift);
// UniPC of diffusers 0.37 and later: N even steps from 1 to 0.001, shifted.
// Source: diffusers schedulers/scheduling_unipc_multistep.py.
at::Tensor diffusers_unipc_levels(int64_t steps, double shift);
// UniPC of diffusers up to 0.36: N even steps from 0.999 to 0, shifted.
at::Tensor diffusers_unipc_036_levels(int64_t steps, double shift);
// diffusers' flow-matching Euler: N even levels from 1 to the shifted 0.001, both included, then
// shifted. So the last level is shifted twice.
// Source: diffusers schedulers/scheduling_flow_match_euler_discrete.py.
at::Tensor diffusers_euler_levels(int64_t steps, double shift);
// MixGRPO-Flash: the levels of euler_levels() up to level `last`, that of the last step with noise.
// Then max(int((N - last)·ratio), 1) levels that are even before the shift, from that of level last
// + 1 down to 0, without the 0 itself as everywhere here; a single one would be the 0. 0 <= last <
// N = steps, 0 < ratio <= 1. -> [last + max(int((N - last)·ratio), 1)] float32
// Source: MixGRPO fastvideo/utils/sampling_utils.py:run_sample_step. Where its rule gives a single
// level, it ends at that of last + 1 and leaves noise in the result; here it is the final 0.
at::Tensor flash_levels(int64_t steps, double shift, int64_t last, double ratio);

// The following functions turn levels [N] into a schedule.

// Timesteps are sigma·1000 in float32, not rounded.
Schedule exact_schedule(const at::Tensor& levels);
// Timesteps are sigma·1000 in float64, truncated to whole numbers.
Schedule whole_schedule(const at::Tensor& levels);
// The same, but a first level of 1 is lowered by 1e-6, as diffusers does.
Schedule whole_schedule_below_one(const at::Tensor& levels);

}  // namespace ospnext
