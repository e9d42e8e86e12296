"""Makes tests/fixtures/schedulers/euler.safetensors: run from the repository root, no arguments.

sigmas_N_S, timesteps_N_S   the noise levels of N steps at shift S, computed here in float64
latents_N_S                 a trajectory of diffusers' FlowMatchEulerDiscreteScheduler on velocity_N_S,
                            given the unshifted levels (its own choice of levels is another one)
noise_SEED                  initial noise as OSP-Next draws it, [16, 3, 6, 10]
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from safetensors.torch import save_file

CASES = [(1, 7.0), (4, 1.0), (20, 5.0), (50, 7.0)]
SEEDS = [0, 1024, 2**40 + 3]


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


def main() -> None:
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
    folder = Path("tests/fixtures/schedulers")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "euler.safetensors")


if __name__ == "__main__":
    main()
