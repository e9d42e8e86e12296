"""Wan's UniPC and DPM++ for flow matching, written from their papers' formulas in float64.

An independent reference for the C++ samplers, which use shortcuts that hold for order 2 only: here every
step of UniPC solves its linear system for any order, and DPM++ goes by exponentials of lambda.
Zhao et al. 2023, arXiv:2302.04867 (B(h) = e^h - 1, data prediction); Lu et al. 2022, arXiv:2211.01095.

    python tools/wan_samplers.py WAN2.1    compares with the code of Wan's repository at that path
"""

import math
import sys

import numpy as np

ORDER = 2


def unipc_levels(steps: int, shift: float) -> np.ndarray:
    """The noise levels of N steps in float64, without the last, 0."""
    first = float(np.float32(0.999))  # the noisiest of Wan's 1000 training levels
    return shifted(np.linspace(first, 0, steps + 1)[:-1], shift)


def dpm_levels(steps: int, shift: float) -> np.ndarray:
    return shifted(np.linspace(1, 0, steps + 1)[:-1], shift)


def shifted(sigma: np.ndarray, shift: float) -> np.ndarray:
    return shift * sigma / (1 + (shift - 1) * sigma)


def whole_timesteps(levels: np.ndarray) -> np.ndarray:
    return np.trunc(levels * 1000).astype(np.int64)


def snr(sigma: float) -> float:
    """lambda = log(alpha / sigma)"""
    if sigma == 0:
        return math.inf
    return math.log(1 - sigma) - math.log(sigma) if sigma < 1 else -math.inf


def unified_step(x, estimates, levels, target, hindsight=None):
    """From x at levels[-1] to `target`; estimates of the clean latent at `levels`, oldest first.

    Without `hindsight` the predictor UniP-p, p = len(levels); with the estimate at `target` the corrector
    UniC-p. Equation 9 of the paper with phi_k of data prediction.
    """
    order = len(levels)
    here, m0 = levels[-1], estimates[-1]
    h = snr(target) - snr(here)
    decay = math.expm1(-h)
    ratios = [(snr(level) - snr(here)) / h for level in reversed(levels[:-1])]
    slopes = [(m - m0) / r for m, r in zip(reversed(estimates[:-1]), ratios)]
    if hindsight is not None:
        ratios, slopes = ratios + [1.0], slopes + [hindsight - m0]
    total = np.zeros_like(x)
    if slopes:
        count = len(slopes)
        if count == 1:
            weights = [0.5]  # both papers' choice for one slope
        else:
            moments, phi = [], decay / -h - 1
            for k in range(1, count + 1):
                moments.append(phi * math.factorial(k) / decay)
                phi = phi / -h - 1 / math.factorial(k + 1)
            weights = np.linalg.solve(np.vander(ratios, count, increasing=True).T, moments)
        total = sum(w * s for w, s in zip(weights, slopes))
    return target / here * x - (1 - target) * decay * (m0 + total)


def unipc_run(sigmas, latent, velocities):
    """Latents [N + 1, ...] of a run over sigmas [N + 1]."""
    steps = len(sigmas) - 1
    latents, estimates, start, order = [latent], [], None, 0
    for i in range(steps):
        estimate = latents[-1] - sigmas[i] * velocities[i]
        x = latents[-1]
        if i > 0:
            x = unified_step(start, estimates[-order:], sigmas[i - order : i], sigmas[i], estimate)
        estimates.append(estimate)
        order = min(ORDER, steps - i, i + 1)
        start = x
        latents.append(unified_step(x, estimates[-order:], sigmas[i + 1 - order : i + 1], sigmas[i + 1]))
    return np.stack(latents)


def dpm_run(sigmas, latent, velocities):
    steps = len(sigmas) - 1
    latents, estimates = [latent], []
    for i in range(steps):
        s, t = sigmas[i], sigmas[i + 1]
        estimates.append(latents[-1] - s * velocities[i])
        h = snr(t) - snr(s)
        direction = estimates[-1]
        if 0 < i < steps - 1:
            r = (snr(s) - snr(sigmas[i - 1])) / h
            direction = direction + (estimates[-1] - estimates[-2]) / (2 * r)
        latents.append(t / s * latents[-1] - (1 - t) * math.expm1(-h) * direction)
    return np.stack(latents)


def check(repository: str) -> None:
    """Prints how far Wan's code is from the formulas: timesteps, levels, and relative latents."""
    import importlib.util

    import torch

    def load(name):
        spec = importlib.util.spec_from_file_location(name, f"{repository}/wan/utils/{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    solvers, unipc = load("fm_solvers"), load("fm_solvers_unipc")
    for kind in ("unipc", "dpm++"):
        worst = {}
        for steps in range(4, 51):
            for shift in range(1, 9):
                if kind == "unipc":
                    scheduler = unipc.FlowUniPCMultistepScheduler(num_train_timesteps=1000, shift=1)
                    scheduler.set_timesteps(steps, shift=shift)
                    levels, run = unipc_levels(steps, shift), unipc_run
                else:
                    scheduler = solvers.FlowDPMSolverMultistepScheduler(num_train_timesteps=1000, shift=1)
                    scheduler.set_timesteps(sigmas=solvers.get_sampling_sigmas(steps, shift))
                    levels, run = dpm_levels(steps, shift), dpm_run
                generator = torch.Generator().manual_seed(steps)
                latent = torch.randn(1, 16, 2, 2, 3, generator=generator)
                velocity = torch.randn(steps, 1, 16, 2, 2, 3, generator=generator)
                sigmas = np.append(levels, 0).astype(np.float32)
                ours = run(sigmas.astype(np.float64), latent.double().numpy(), velocity.double().numpy())
                theirs = [latent]
                for time, v in zip(scheduler.timesteps, velocity):
                    theirs.append(scheduler.step(v, time, theirs[-1], return_dict=False)[0])
                theirs = torch.stack(theirs).double().numpy()
                found = {
                    "timesteps": np.abs(whole_timesteps(levels) - scheduler.timesteps.numpy()).max(),
                    "sigmas": np.abs(sigmas - scheduler.sigmas.numpy()).max(),
                    f"latents, {'up to 10' if steps <= 10 else 'more'} steps": max(
                        np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(ours, theirs)),
                }
                worst = {**worst, **{k: max(v, worst.get(k, 0)) for k, v in found.items()}}
        print(kind, {name: float(value) for name, value in worst.items()})


if __name__ == "__main__":
    check(sys.argv[1])
