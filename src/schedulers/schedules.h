// The noise levels of the samplers: which levels a run of N steps visits, and what the model is told.
//
// Levels are computed in float64, operation by operation as the reference has them, because Wan's and
// diffusers' UniPC cut timesteps to whole numbers: a last bit can decide between 973 and 972.
#pragma once

#include <cstdint>
#include <vector>

#include "core/torch/torch.h"

namespace ospnext {

struct Schedule {
  at::Tensor sigmas;     // [N + 1] float32, falling, the last is 0
  at::Tensor timesteps;  // [N] float32: what the model is told at each step
};

// s * sigma / (1 + (s - 1) * sigma), elementwise: a shift s above 1 spends more of the time at high
// noise, and 0 and 1 stay where they are. `sigma` any shape and float type.
at::Tensor shifted_sigma(const at::Tensor& sigma, double shift);

// The levels [N] of N = `steps` steps, without the 0 at the end; float64 but for the first, float32.

// OSP-Next: N even steps from 1 to 0, shifted, all in float32. Source: OSP-Next flow_matching scheduler.
at::Tensor euler_levels(int64_t steps, double shift);
// Wan's UniPC: N even steps from float32(0.999) to 0, shifted.
// Source: Wan2.1 wan/utils/fm_solvers_unipc.py:FlowUniPCMultistepScheduler.
at::Tensor unipc_levels(int64_t steps, double shift);
// Wan's DPM++: N even steps from 1 to 0, shifted. Source: Wan2.1 wan/utils/fm_solvers.py.
at::Tensor dpm_levels(int64_t steps, double shift);
// diffusers' UniPC from 0.37 on: N even steps from 1 to 0.001, shifted.
// Source: diffusers schedulers/scheduling_unipc_multistep.py.
at::Tensor diffusers_unipc_levels(int64_t steps, double shift);
// The same up to 0.36: N even steps from 0.999 to 0, shifted.
at::Tensor diffusers_unipc_036_levels(int64_t steps, double shift);
// diffusers' flow-matching Euler: N levels from 1 to shifted 0.001, both ends included, shifted (the
// last level is shifted twice). Source: diffusers schedulers/scheduling_flow_match_euler_discrete.py.
at::Tensor diffusers_euler_levels(int64_t steps, double shift);

// From levels [N] to a schedule.

// A timestep is sigma * 1000 in float32, not rounded.
Schedule exact_schedule(const at::Tensor& levels);
// A timestep is sigma * 1000 in float64, cut to a whole number.
Schedule whole_schedule(const at::Tensor& levels);
// The same after a first level of 1 has been lowered by 1e-6, as diffusers does.
Schedule whole_schedule_below_one(const at::Tensor& levels);

}  // namespace ospnext
