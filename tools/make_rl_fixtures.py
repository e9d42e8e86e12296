"""Makes tests/fixtures/rl/: the mathematics of reinforcement learning in float64, from its formulas.

Run from the repository root, no arguments, the same files each time. The formulas are those that
docs/rl.md names with their sources; numpy and torch compute them, with torch's autograd for
gradients.

sde_step.safetensors     latent, velocity, noise [B, ...] float32; of each case NAME the levels
                         NAME.levels [3] float32 (sigma, next_sigma, first_sigma), and in float64
                         NAME.mean, .std [1], .next, .log_prob [B], .gradient [B, ...] of the sum of
                         log_prob with respect to the velocity. The metadata has kind and eta;
                         cases whose cells share noise have frames and side of these, and begin
                         with cells.latent, .velocity, .noise
advantages.safetensors   NAME.rewards [n, K], .weights [K], .groups [n]; NAME.osp, .osp_all (divided
                         by the spread of all), .mix [n] float64, .kept [n]
policy_loss.safetensors  the inputs of NAME in float32, and its results in float64; the metadata has
                         its settings
forward_loss.safetensors clean, noised, policy, old, reference [n, ...] and advantages [n] of NAME in
                         float32, and its results in float64; the metadata has its settings
schedules.safetensors    flash_NAME [n] float64, prompts_NAME [processes, batch], window_NAME [n, 2]
                         (first step and end after each iteration); the metadata has their settings
pixels.safetensors       video [B, 3, F, H, W] float32 in [0, 1]; NAME.PART [B] float64
"""

import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path("tests/fixtures/rl")
ONE_BELOW_HALF = float(np.nextafter(np.float32(0.5), np.float32(0)))

# name: kind, eta, sigma, next_sigma, first_sigma
SDE_CASES = {
    "osp_first": ("osp", None, 1.0, 0.96, 0.96),
    "osp_middle": ("osp", None, 0.6, 0.56, 0.96),
    "osp_last": ("osp", None, 0.04, 0.0, 0.96),
    "osp_tiny": ("osp", None, 0.5, ONE_BELOW_HALF, 0.96),
    "mix_first": ("mix", 0.7, 1.0, 0.98630137, 0.98630137),
    "mix_second": ("mix", 0.7, 0.98630137, 0.9718310, 0.98630137),
    "mix_middle": ("mix", 0.3, 0.7, 0.5, 0.9),
    "mix_last": ("mix", 0.7, 0.1, 0.0, 0.9),
    "mix_tiny": ("mix", 0.7, 0.5, ONE_BELOW_HALF, 0.9),
    "dance_first": ("dance", 0.3, 1.0, 0.96, 0.96),
    "dance_middle": ("dance", 0.25, 0.5, 0.4, 0.96),
    "dance_last": ("dance", 0.3, 0.08, 0.0, 0.96),
}
# name: the case, frames and side of the cells that share their noise
CELL_CASES = {"osp_cells": ("osp_middle", 2, 1), "mix_cells": ("mix_first", 1, 2)}
CELL_CASES |= {"dance_cells": ("dance_middle", 2, 2)}


def sde_gaussian(kind, eta, x, v, sigma, next_sigma, first_sigma):
    """Mean and std of the next latent."""
    dt = next_sigma - sigma
    if kind == "dance":
        clean = x - sigma * v
        score = -(x - clean * (1 - sigma)) / sigma**2
        return x + v * dt - 0.5 * eta**2 * score * dt, eta * math.sqrt(-dt)
    if kind == "osp":
        strength = sigma
    else:
        strength = eta * math.sqrt(sigma / (1 - (first_sigma if sigma == 1 else sigma)))
    mean = x * (1 + strength**2 / (2 * sigma) * dt) + v * (
        1 + strength**2 * (1 - sigma) / (2 * sigma)
    ) * dt
    return mean, strength * math.sqrt(-dt)


def step_results(name, levels, mean, std, drawn, log_prob, gradient):
    """The tensors of one step, by their names."""
    return {
        f"{name}.levels": levels,
        f"{name}.mean": mean.detach(),
        f"{name}.std": torch.tensor([std], dtype=torch.float64),
        f"{name}.next": drawn,
        f"{name}.log_prob": log_prob.detach(),
        f"{name}.gradient": gradient,
    }


def cell_basis(shape, frames, side):
    """An orthonormal basis of what is constant in each cell: [F/f, h/s, w/s, F, h, w]."""
    F, h, w = shape
    f, y, x = np.meshgrid(np.arange(F), np.arange(h), np.arange(w), indexing="ij")
    cells = [
        (f // frames == a) & (y // side == b) & (x // side == c)
        for a in range(F // frames)
        for b in range(h // side)
        for c in range(w // side)
    ]
    basis = torch.from_numpy(np.stack(cells)).double() / math.sqrt(frames * side * side)
    return basis.view(F // frames, h // side, w // side, F, h, w)


def make_cell_steps(tensors, settings):
    generator = torch.Generator().manual_seed(19)
    shape = (2, 3, 4, 4, 2)
    latent, velocity, noise = (torch.randn(shape, generator=generator) for _ in range(3))
    tensors |= {"cells.latent": latent, "cells.velocity": velocity, "cells.noise": noise}
    for name, (case, frames, side) in CELL_CASES.items():
        kind, eta, *levels = SDE_CASES[case]
        levels = torch.tensor(levels, dtype=torch.float32)
        basis = cell_basis(shape[2:], frames, side)
        into = lambda tensor: torch.einsum("bcfyx,ijkfyx->bcijk", tensor, basis)
        out = lambda tensor: torch.einsum("bcijk,ijkfyx->bcfyx", tensor, basis)
        v = velocity.double().requires_grad_()
        everywhere, std = sde_gaussian(kind, eta, latent.double(), v, *levels.double().tolist())
        euler = latent.double() + v * (levels[1].double() - levels[0].double())
        mean = euler + out(into(everywhere - euler))
        drawn = mean.detach() + std * out(into(noise.double()))
        stored = drawn.float().double()
        density = torch.distributions.Normal(into(mean), std).log_prob(into(stored))
        log_prob = density.flatten(1).mean(1)
        log_prob.sum().backward()
        settings[name] = {"kind": kind, "eta": eta, "frames": frames, "side": side}
        tensors |= step_results(name, levels, mean, std, drawn, log_prob, v.grad)


def make_sde_steps():
    generator = torch.Generator().manual_seed(11)
    shape = (2, 3, 2, 3, 2)
    latent, velocity, noise = (torch.randn(shape, generator=generator) for _ in range(3))
    tensors = {"latent": latent, "velocity": velocity, "noise": noise}
    settings = {}
    for name, (kind, eta, *levels) in SDE_CASES.items():
        levels = torch.tensor(levels, dtype=torch.float32)
        v = velocity.double().requires_grad_()
        mean, std = sde_gaussian(kind, eta, latent.double(), v, *levels.double().tolist())
        drawn = mean.detach() + std * noise.double()
        stored = drawn.float().double()  # the latent that a rollout keeps
        density = torch.distributions.Normal(mean, std).log_prob(stored)
        log_prob = density.flatten(1).mean(1)
        log_prob.sum().backward()
        settings[name] = {"kind": kind, "eta": eta}
        tensors |= step_results(name, levels, mean, std, drawn, log_prob, v.grad)
    make_cell_steps(tensors, settings)
    save_file(tensors, FOLDER / "sde_step.safetensors", {"settings": json.dumps(settings)})


def advantage_cases():
    random = np.random.default_rng(12)
    even = random.normal(size=(12, 1)), [1.0], np.repeat([0, 1, 2], 4)
    uneven = random.normal(size=(11, 3)), [1.0, 0.5, -2.0], [7, 7, 3, 3, 3, 3, 3, -1, 9, 9, 9]
    flat = random.normal(size=(9, 2)), [1.0, 1.0], np.repeat([0, 1, 2], 3)
    flat[0][:3] = 0.1  # the mean of three equal numbers is not always that number
    flat[0][3:6, 0] = 2.0  # one of two rewards is equal
    far = np.zeros((44, 1)), [2.0], np.array([0] * 40 + [1] * 4)
    far[0][7], far[0][40:, 0] = 1.0, [-1.0, 3.0, 0.5, 0.25]  # over 5 standard deviations away
    return {"even": even, "uneven": uneven, "flat": flat, "far": far}


def spread_out(values, groups, std_of, floor):
    result = np.zeros_like(values)
    for group in np.unique(groups):
        members = groups == group
        own = values[members]
        if own.max() > own.min():
            result[members] = (own - own.mean()) / (std_of(own) + floor)
    return result


def make_advantages():
    tensors = {}
    for name, (rewards, weights, groups) in advantage_cases().items():
        rewards = torch.tensor(rewards, dtype=torch.float32)
        weights, groups = torch.tensor(weights, dtype=torch.float32), torch.tensor(np.asarray(groups))
        r, w, g = rewards.double().numpy(), weights.double().numpy(), groups.numpy()
        summed = (r * w).sum(1)
        osp = spread_out(summed, g, lambda own: own.std(), 1e-4).clip(-5, 5)
        osp_all = spread_out(summed, g, lambda own: summed.std(), 1e-4).clip(-5, 5)
        mix = sum(
            w[k] * spread_out(r[:, k], g, lambda own: own.std(ddof=1), 1e-8) for k in range(len(w))
        )
        tensors |= {
            f"{name}.rewards": rewards,
            f"{name}.weights": weights,
            f"{name}.groups": groups,
            f"{name}.osp": torch.from_numpy(osp),
            f"{name}.osp_all": torch.from_numpy(osp_all),
            f"{name}.mix": torch.from_numpy(mix),
            f"{name}.kept": torch.from_numpy((osp != 0).astype(np.int64)),
        }
    save_file(tensors, FOLDER / "advantages.safetensors")


# name: clip, kl_beta, sde_steps, accumulate, adv_clip
LOSS_CASES = {
    "plain": (5e-3, 0.0, 1, 1, 5.0),
    "osp": (1e-4, 0.004, 10, 2, 5.0),
    "narrow": (0.2, 0.5, 4, 3, 1.5),
}


def make_policy_loss():
    generator = torch.Generator().manual_seed(13)
    tensors, settings = {}, {}
    for name, (clip, beta, steps, accumulate, adv_clip) in LOSS_CASES.items():
        old = torch.randn(8, generator=generator)
        log_prob = old + 2 * clip * torch.randn(8, generator=generator)
        log_prob[0] = old[0]  # a ratio of exactly 1
        advantages = 3 * torch.randn(8, generator=generator)
        advantages[1], advantages[2] = 9.0, -9.0
        mean = torch.randn(8, 2, 3, generator=generator)
        reference = mean + 0.05 * torch.randn(8, 2, 3, generator=generator)
        std = torch.tensor([0.13])
        inputs = {"log_prob": log_prob, "old_log_prob": old, "advantages": advantages}
        inputs |= {"mean": mean, "reference_mean": reference, "std": std}
        wide = {key: value.double() for key, value in inputs.items()}
        lp, mu = wide["log_prob"].requires_grad_(), wide["mean"].requires_grad_()
        ratio = torch.exp(lp - wide["old_log_prob"])
        bounded = torch.clip(ratio, 1 - clip, 1 + clip)
        advantage = torch.clip(wide["advantages"], -adv_clip, adv_clip)
        policy = torch.maximum(-advantage * ratio, -advantage * bounded).mean()
        kl = ((mu - wide["reference_mean"]) ** 2).mean() / (2 * wide["std"][0] ** 2)
        loss = (policy + beta * kl) / (accumulate * steps)
        loss.backward()
        results = {
            "loss": loss,
            "policy_loss": policy,
            "kl": kl,
            "approx_kl": 0.5 * ((lp - wide["old_log_prob"]) ** 2).mean(),
            "clip_fraction": ((ratio - 1).abs() > clip).double().mean(),
        }
        tensors |= {f"{name}.{key}": value for key, value in inputs.items()}
        tensors |= {f"{name}.{key}": value.detach().reshape(1) for key, value in results.items()}
        tensors |= {f"{name}.ratio": ratio.detach()}
        tensors |= {f"{name}.gradient.log_prob": lp.grad, f"{name}.gradient.mean": mu.grad}
        settings[name] = {
            "clip": clip,
            "kl_beta": beta,
            "sde_steps": steps,
            "accumulate": accumulate,
            "adv_clip": adv_clip,
        }
    save_file(tensors, FOLDER / "policy_loss.safetensors", {"settings": json.dumps(settings)})


# name: beta, kl_beta, adv_clip, level
FORWARD_CASES = {"plain": (1.0, 0.0, 5.0, 1.0), "narrow": (0.1, 0.3, 1.5, 0.25)}
FORWARD_CASES |= {"first": (0.5, 0.01, 5.0, 0.9), "low": (1.0, 0.1, 5.0, 0.01)}


def make_forward_loss():
    generator = torch.Generator().manual_seed(17)
    tensors, settings = {}, {}
    for name, (beta, kl_beta, adv_clip, level) in FORWARD_CASES.items():
        shape = (5, 2, 3, 4, 4)
        clean = torch.randn(shape, generator=generator)
        noise = torch.randn(shape, generator=generator)
        inputs = {"clean": clean, "noised": (1 - level) * clean + level * noise}
        inputs["old"] = noise - clean + 0.5 * torch.randn(shape, generator=generator)
        difference = 0.0 if name == "first" else 0.2
        inputs["policy"] = inputs["old"] + difference * torch.randn(shape, generator=generator)
        inputs["reference"] = inputs["old"] + 0.1 * torch.randn(shape, generator=generator)
        inputs["advantages"] = torch.tensor([1.3, -0.7, 9.0, -9.0, 0.0])
        wide = {key: value.double() for key, value in inputs.items()}
        policy = wide["policy"].requires_grad_()
        total = 0.0
        for i in range(shape[0]):
            good = 0.5 + 0.5 * min(1.0, max(-1.0, wide["advantages"][i].item() / adv_clip))
            for sign, share in ((1, good), (-1, 1 - good)):
                velocity = wide["old"][i] + sign * beta * (policy[i] - wide["old"][i])
                guess = wide["noised"][i] - level * velocity
                scale = max(1e-5, (guess - wide["clean"][i]).abs().mean().item())
                total = total + share * ((guess - wide["clean"][i]) ** 2).mean() / scale
        results = {"policy_loss": total / shape[0] * adv_clip / beta}
        results["kl"] = ((policy - wide["reference"]) ** 2).mean()
        results["change"] = ((policy - wide["old"]) ** 2).mean()
        results["loss"] = results["policy_loss"] + kl_beta * results["kl"]
        results["loss"].backward()
        tensors |= {f"{name}.{key}": value for key, value in inputs.items()}
        tensors |= {f"{name}.{key}": value.detach().reshape(1) for key, value in results.items()}
        tensors[f"{name}.gradient"] = policy.grad
        settings[name] = {"beta": beta, "kl_beta": kl_beta, "adv_clip": adv_clip, "level": level}
    save_file(tensors, FOLDER / "forward_loss.safetensors", {"settings": json.dumps(settings)})


# steps, shift, last, ratio
FLASH_CASES = [(25, 3.0, 3, 0.4), (25, 1.0, 4, 0.4), (25, 7.0, 0, 0.2), (10, 3.0, 7, 0.4)]
FLASH_CASES += [(4, 5.0, 3, 1.0), (8, 2.5, 1, 1.0)]
# prompts, processes, batch of each, videos of a prompt, seed, round
PROMPT_CASES = [(10, 2, 6, 4, 1024, 0), (10, 2, 6, 4, 1024, 5), (3, 1, 6, 2, 7, 1), (40, 4, 2, 8, 0, 9)]
# kind, steps, size, stride, iterations of a window, rolls back
WINDOW_CASES = [("progressive", 25, 4, 1, 3, 0), ("progressive", 9, 4, 4, 1, 1)]
WINDOW_CASES += [("progressive", 25, 4, 0, 2, 0), ("decaying", 12, 2, 1, 8, 1)]


def flash(steps, shift, last, ratio):
    def shifted(time):
        return shift * time / (1 + (shift - 1) * time)

    times = np.linspace(1, 0, steps + 1)
    count = max(int((steps - last) * ratio), 1)
    rest = np.linspace(times[last + 1], 0, count) if count > 1 else np.zeros(1)
    return shifted(np.concatenate([times[: last + 1], rest]))


def prompts(count, processes, batch, repeats, seed, epoch):
    generator = torch.Generator().manual_seed(seed + epoch)
    chosen = torch.randperm(count, generator=generator)[: processes * batch // repeats]
    every = chosen.repeat_interleave(repeats)
    return every[torch.randperm(len(every), generator=generator)].reshape(processes, batch)


def window(kind, steps, size, stride, iterations, rolls_back):
    limit, begin, done = steps - 2, 0, 0
    trace = []
    for _ in range(40):
        trace.append((begin, min(begin + size, limit)))
        due = iterations
        if kind == "decaying":
            fewest, way = max(1, iterations // 4), begin / limit
            due = max(fewest, int(iterations * (1 - way) + fewest * way))
        done += 1
        if done >= due:
            begin, done = begin + stride, 0
            if begin > limit - 1:
                begin = 0 if rolls_back else limit - 1
    return torch.tensor(trace)


def make_schedules():
    tensors = {f"flash_{i}": torch.from_numpy(flash(*c)) for i, c in enumerate(FLASH_CASES)}
    tensors |= {f"prompts_{i}": prompts(*case) for i, case in enumerate(PROMPT_CASES)}
    tensors |= {f"window_{i}": window(*case) for i, case in enumerate(WINDOW_CASES)}
    settings = {"flash": FLASH_CASES, "prompts": PROMPT_CASES, "window": WINDOW_CASES}
    save_file(tensors, FOLDER / "schedules.safetensors", {"settings": json.dumps(settings)})


def make_pixels():
    random = np.random.default_rng(14)
    video = random.uniform(size=(3, 3, 5, 7, 9)).astype(np.float32)
    video[1] = np.clip(2 * video[1] - 0.7, 0, 1)  # much of it black or white
    video[2, :, 1:4] = video[2, :, :1]  # frames that stand still
    luma = np.tensordot([0.2126, 0.7152, 0.0722], video.astype(np.float64), axes=([0], [1]))
    steps = np.abs(np.diff(luma, axis=1)).mean((2, 3))  # [B, F - 1]
    inside = luma[:, :, 1:-1, 1:-1]
    around = luma[:, :, :-2, 1:-1] + luma[:, :, 2:, 1:-1] + luma[:, :, 1:-1, :-2] + luma[:, :, 1:-1, 2:]
    dark, bright = (luma < 0.02).mean((1, 2, 3)), (luma > 0.98).mean((1, 2, 3))
    parts = {
        "motion.total": steps.mean(1),
        "motion.frozen": (steps < 1 / 255).mean(1),
        "exposure.total": 1 - dark - bright,
        "exposure.dark": dark,
        "exposure.bright": bright,
        "exposure.mean": luma.mean((1, 2, 3)),
        "sharpness.total": (around - 4 * inside).std((2, 3)).mean(1),
    }
    tensors = {"video": torch.from_numpy(video)} | {k: torch.from_numpy(v) for k, v in parts.items()}
    save_file(tensors, FOLDER / "pixels.safetensors")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_sde_steps()
    make_advantages()
    make_policy_loss()
    make_forward_loss()
    make_schedules()
    make_pixels()
