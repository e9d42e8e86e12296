"""Makes tests/fixtures/training/: clipping, averaging, AdamW and noise levels as OSP-Next trains,
and learning rates as transformers schedules them.

Run from the repository root, no arguments, the same files each time:

clip.safetensors          norms_NAME [n] and clip_NAME [n, 4] float64: coefficient, largest norm,
                          mean and variance after each step. torch.nn.utils.clip_grad_norm_ scales
                          a gradient of that norm; the averages follow OSP-Next's rule
ema.safetensors           parameters_NAME [n, ...] float32, shadow_NAME float64; NAME is DECAY_EVERY
adamw.safetensors         parameter_NAME float32, gradients_NAME [n, ...] float32; double_NAME and
                          single_NAME [n, ...] of torch.optim.AdamW in float64 and float32. The
                          metadata has the settings that are not OSP-Next's, in JSON
noise_levels.safetensors  normal, uniform [n] float32; shift_CASE [1] and sigma_KIND_CASE [n]
                          float64; CASE is a shift or a size of the latent such as 90x160
learning_rates.safetensors  NAME [41] float64: the rates of steps 0 to 40 by transformers'
                          get_scheduler(NAME), of which 5 warm up
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import get_scheduler

FOLDER = Path("tests/fixtures/training")
CLIP_DECAY, CLIP_START = 0.99, 1.0
OSP_ADAMW = {"lr": 1e-4, "betas": [0.9, 0.999], "eps": 1e-15, "weight_decay": 1e-2}
OTHER_ADAMW = {"lr": 3e-2, "betas": [0.8, 0.95], "eps": 1e-2, "weight_decay": 0.3}
EMA_CASES = [(0.9999, 1), (0.9, 1), (0.5, 3)]
SHIFTS = [1.0, 3.0, 7.0]
SIZES = [(90, 160), (60, 104), (16, 16), (2, 6)]


def clipped(gradient: torch.Tensor, limit: float) -> float:
    """Scales `gradient` in place as torch does, and returns its norm before."""
    parameter = torch.zeros_like(gradient, requires_grad=True)
    parameter.grad = gradient
    return torch.nn.utils.clip_grad_norm_(parameter, limit, error_if_nonfinite=True).item()


def clip_steps(norms: list) -> torch.Tensor:
    largest, mean, variance = CLIP_START, 0.0, 0.0
    rows, begun = [], False
    for norm in norms:
        gradient = torch.tensor([norm], dtype=torch.float64)
        if not begun and norm > 0:  # the guard against a first norm of 0
            first = clipped(gradient, 1000.0)
            mean, begun = min(CLIP_START, 3 * first), True
        if begun:
            largest = mean + 3.0 * variance**0.5
        seen = clipped(gradient, largest)
        if begun and seen <= largest:
            mean = CLIP_DECAY * mean + (1 - CLIP_DECAY) * seen
            variance = CLIP_DECAY * variance + (1 - CLIP_DECAY) * (mean - seen) ** 2
        rows.append([gradient.item() / norm if norm > 0 else 1.0, largest, mean, variance])
    return torch.tensor(rows, dtype=torch.float64)


def make_clip() -> dict:
    random = np.random.default_rng(1)
    wandering = np.exp(random.normal(-1.0, 0.5, 60))
    wandering[[20, 35, 36]] = [40.0, 1e9, 0.0]
    cases = {
        "small": (0.02 * wandering).tolist(),  # begins with three times the first norm
        "large": (3 * wandering).tolist(),  # begins with 1
        "huge": [5000.0, 0.5, 0.9, 2.0, 0.1],  # the first norm is over 1000
        "zeros": [0.0, 0.0, 0.2, 0.0, 0.3, 0.7, 0.1],
    }
    tensors = {}
    for name, norms in cases.items():
        tensors[f"norms_{name}"] = torch.tensor(norms, dtype=torch.float64)
        tensors[f"clip_{name}"] = clip_steps(norms)
    return tensors


def make_ema() -> dict:
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for decay, every in EMA_CASES:
        parameters = torch.randn(11, 3, 5, generator=generator).cumsum(0)
        shadow = parameters[0].double().numpy().copy()
        averages = [shadow.copy()]
        for step in range(1, len(parameters)):
            if step % every == 0:
                shadow -= (1.0 - decay) * (shadow - parameters[step].double().numpy())
            averages.append(shadow.copy())
        tensors[f"parameters_{decay}_{every}"] = parameters
        tensors[f"shadow_{decay}_{every}"] = torch.from_numpy(np.stack(averages))
    return tensors


def adamw_steps(start: torch.Tensor, gradients: torch.Tensor, settings: dict) -> torch.Tensor:
    parameter = start.clone().requires_grad_(True)
    optimizer = torch.optim.AdamW([parameter], **settings)
    after = []
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        after.append(parameter.detach().clone())
    return torch.stack(after)


def make_adamw() -> dict:
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, settings, shape in (("osp", OSP_ADAMW, (7,)), ("other", OTHER_ADAMW, (4, 2, 3))):
        start = 0.05 * torch.randn(shape, generator=generator)  # as large as weights
        scales = torch.logspace(-8, 1, start.numel()).reshape(shape)
        scales = scales * torch.randn(20, *[1] * len(shape), generator=generator).exp()
        gradients = scales * torch.randn(20, *shape, generator=generator)
        gradients[:, 0] = 0
        tensors[f"parameter_{name}"] = start
        tensors[f"gradients_{name}"] = gradients
        tensors[f"double_{name}"] = adamw_steps(start.double(), gradients.double(), settings)
        tensors[f"single_{name}"] = adamw_steps(start, gradients, settings)
    return tensors


def osp_shift(height: int, width: int) -> float:
    slope = (1.15 - 0.5) / (4096 - 256)
    return math.exp(height * width // 4 * slope + (0.5 - slope * 256))


def make_noise_levels() -> dict:
    generator = torch.Generator().manual_seed(4)
    normal = torch.cat([torch.randn(40, generator=generator), torch.tensor([0.0, -9.0, 9.0])])
    uniform = torch.cat([torch.rand(40, generator=generator), torch.tensor([0.0, 0.5, 1 - 2**-24])])
    levels = {"normal": 1 / (1 + np.exp(-normal.double().numpy())), "uniform": uniform.double().numpy()}
    shifts = {f"{shift:g}": shift for shift in SHIFTS}
    shifts |= {f"{height}x{width}": osp_shift(height, width) for height, width in SIZES}
    tensors = {"normal": normal, "uniform": uniform}
    for case, shift in shifts.items():
        tensors[f"shift_{case}"] = torch.tensor([shift], dtype=torch.float64)
        for kind, level in levels.items():
            tensors[f"sigma_{kind}_{case}"] = torch.from_numpy(shift * level / (1 + (shift - 1) * level))
    return tensors


def make_learning_rates() -> dict:
    peak, warmup, steps = 3e-4, 5, 40
    cases = {
        "constant_with_warmup": {},
        "linear": {},
        "cosine": {},
        "cosine_with_min_lr": {"min_lr_rate": 0.02},
        "cosine_with_restarts": {"num_cycles": 3},
        "polynomial": {"lr_end": 0.1 * peak, "power": 2.5},
    }
    tensors = {}
    for name, settings in cases.items():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak)
        scheduler = get_scheduler(name, optimizer, warmup, steps, settings)
        rates = []
        for _ in range(steps + 1):
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        tensors[name] = torch.tensor(rates, dtype=torch.float64)
    return tensors


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    save_file(make_clip(), FOLDER / "clip.safetensors")
    save_file(make_ema(), FOLDER / "ema.safetensors")
    save_file(make_adamw(), FOLDER / "adamw.safetensors", {"other": json.dumps(OTHER_ADAMW)})
    save_file(make_noise_levels(), FOLDER / "noise_levels.safetensors")
    save_file(make_learning_rates(), FOLDER / "learning_rates.safetensors")
