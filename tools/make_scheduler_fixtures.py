"""Makes tests/fixtures/schedulers/: run from the repository root, no arguments.

euler.safetensors, OSP-Next's sampler and noise:
sigmas_N_S, timesteps_N_S   the noise levels of N steps at shift S, computed here in float64
latents_N_S                 a trajectory of diffusers' FlowMatchEulerDiscreteScheduler on velocity_N_S,
                            given the unshifted levels (its own choice of levels is another one)
noise_SEED                  initial noise as OSP-Next draws it, [16, 3, 6, 10]

samplers.safetensors, those of diffusers and (by the formulas of wan_samplers.py) of Wan:
NAME.timesteps              int16, whole timesteps of N = 4...50 at shift 1, then at 2, ... 8, in a row
NAME.sigmas_N_S             float32 [N + 1]
NAME.timesteps_N_S          of samplers that do not round
NAME.latents_N_S            [N + 1, ...] from `latent` under the first N of `velocity`
NAME.custom_*               the same of a run over the levels custom, shift 1
"""

from pathlib import Path

import numpy as np
import torch
import wan_samplers as wan
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from safetensors.torch import save_file

CASES = [(1, 7.0), (4, 1.0), (20, 5.0), (50, 7.0)]
SEEDS = [0, 1024, 2**40 + 3]
FOLDER = Path("tests/fixtures/schedulers")

STEPS, SHIFTS = range(4, 51), range(1, 9)
LEVELS = [(4, 1), (4, 8), (10, 1), (10, 5), (37, 1), (37, 3), (50, 5), (50, 8)]
RUNS = [(4, 3), (10, 1), (10, 5), (10, 8), (50, 5)]
CUSTOM = [1.0, 0.9, 0.6, 0.25]


def levels(steps: int, shift: float) -> np.ndarray:
    even = np.array([1.0 - i / steps for i in range(steps + 1)], dtype=np.float64)
    return shift * even / (1.0 + (shift - 1.0) * even)


def trajectory(steps: int, shift: float, latent: torch.Tensor, velocity: torch.Tensor) -> torch.Tensor:
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 0.0, steps + 1)[:-1].tolist())
    latents = [latent]
    for time, given in zip(scheduler.timesteps, velocity):
        latents.append(scheduler.step(given, time, latents[-1]).prev_sample)
    return torch.stack(latents)


def make_euler() -> dict:
    tensors = {}
    for steps, shift in CASES:
        name = f"{steps}_{shift:g}"
        sigmas = levels(steps, shift)
        tensors[f"sigmas_{name}"] = torch.from_numpy(sigmas)
        tensors[f"timesteps_{name}"] = torch.from_numpy(sigmas[:-1] * 1000.0)
        generator = torch.Generator().manual_seed(steps)
        latent = torch.randn(16, 2, 2, 3, generator=generator)
        velocity = torch.randn(steps, 16, 2, 2, 3, generator=generator)
        tensors[f"velocity_{name}"] = velocity
        tensors[f"latents_{name}"] = trajectory(steps, shift, latent, velocity)
    for seed in SEEDS:
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn((1, 16, 3, 6, 10), generator=generator, dtype=torch.bfloat16)
        tensors[f"noise_{seed}"] = noise[0]
    return tensors


class Wan:
    """A sampler by the formulas of wan_samplers.py, seen as diffusers' are."""

    def __init__(self, levels, run, shift):
        self.levels, self.run, self.shift = levels, run, shift

    def set_timesteps(self, steps=None, sigmas=None):
        levels = self.levels(steps, self.shift) if sigmas is None else np.array(sigmas)
        self.timesteps = torch.from_numpy(wan.whole_timesteps(levels))
        self.sigmas = torch.from_numpy(np.append(levels, 0).astype(np.float32))

    def latents(self, latent, velocity):
        return torch.from_numpy(self.run(self.sigmas.double().numpy(), latent.double().numpy(),
                                         velocity.double().numpy())).float()


class Diffusers:
    def __init__(self, scheduler):
        self.scheduler = scheduler

    def set_timesteps(self, steps=None, sigmas=None):
        self.scheduler.set_timesteps(**({"sigmas": np.array(sigmas)} if sigmas else {"num_inference_steps": steps}))
        self.timesteps, self.sigmas = self.scheduler.timesteps, self.scheduler.sigmas

    def latents(self, latent, velocity):
        latents = [latent]
        for time, given in zip(self.timesteps, velocity):
            latents.append(self.scheduler.step(given, time, latents[-1]).prev_sample)
        return torch.stack(latents)


class OldUniPc(Diffusers):
    """UniPC of diffusers 0.36: today's, given the levels it had then before the shift."""

    def set_timesteps(self, steps=None, sigmas=None):
        old = np.flip(1 - np.linspace(1, 1 / 1000, steps + 1))[:-1] if sigmas is None else np.array(sigmas)
        self.scheduler.set_timesteps(sigmas=old.copy())
        self.timesteps, self.sigmas = self.scheduler.timesteps, self.scheduler.sigmas


def unipc(shift):
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)


SAMPLERS = {
    "unipc": lambda shift: Wan(wan.unipc_levels, wan.unipc_run, shift),
    "dpm++": lambda shift: Wan(wan.dpm_levels, wan.dpm_run, shift),
    "diffusers-unipc": lambda shift: Diffusers(unipc(shift)),
    "diffusers-unipc-0.36": lambda shift: OldUniPc(unipc(shift)),
    "diffusers-euler": lambda shift: Diffusers(FlowMatchEulerDiscreteScheduler(shift=shift)),
}
NO_CUSTOM = {"unipc", "diffusers-unipc-0.36"}  # divide by zero from level 1


def make_samplers() -> dict:
    generator = torch.Generator().manual_seed(1)
    latent = torch.randn(1, 4, 2, 2, 3, generator=generator)
    velocity = torch.randn(max(STEPS), 1, 4, 2, 2, 3, generator=generator)
    tensors = {"latent": latent, "velocity": velocity, "custom": torch.tensor(CUSTOM)}
    for name, make in SAMPLERS.items():
        whole = []
        for shift in SHIFTS:
            for steps in STEPS:
                sampler = make(shift)
                sampler.set_timesteps(steps)
                whole.append(sampler.timesteps)
                case = f"{steps}_{shift}"
                if (steps, shift) in LEVELS:
                    tensors[f"{name}.sigmas_{case}"] = sampler.sigmas
                    if sampler.timesteps.is_floating_point():
                        tensors[f"{name}.timesteps_{case}"] = sampler.timesteps
                if (steps, shift) in RUNS:
                    tensors[f"{name}.latents_{case}"] = sampler.latents(latent, velocity[:steps])
        if not whole[0].is_floating_point():
            tensors[f"{name}.timesteps"] = torch.cat(whole).short()
        if name not in NO_CUSTOM:
            sampler = make(1)
            sampler.set_timesteps(sigmas=CUSTOM)
            tensors[f"{name}.custom_timesteps"] = sampler.timesteps.float()
            tensors[f"{name}.custom_sigmas"] = sampler.sigmas
            tensors[f"{name}.custom_latents"] = sampler.latents(latent, velocity[: len(CUSTOM)])
    return tensors


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, tensors in (("euler", make_euler()), ("samplers", make_samplers())):
        save_file({n: t.contiguous() for n, t in tensors.items()}, FOLDER / f"{name}.safetensors")


if __name__ == "__main__":
    main()
