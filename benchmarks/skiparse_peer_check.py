"""Compares skiparse_peer.py with the outputs of the padded reference in tests/fixtures.

  python3 benchmarks/compare_diffusers.py --check

tools/skiparse_reference.py is the reference. The models are small, random and in float32 on the CPU:
P from 1 to 4, grids that P² divides and grids that it does not, and sub-sequences of padding only.
The errors of the fixtures' planted mistakes are printed for comparison.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from skiparse_peer import PADDINGS, skiparse_peer

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from wan_weights import diffusers_name, diffusers_sizes  # noqa: E402

LARGEST_ERROR = 2e-5  # diffusers computes the time sinusoid in float32, the reference in float64


def small_model(config: dict, weights: dict) -> WanTransformer3DModel:
    model = WanTransformer3DModel(**diffusers_sizes(config))
    model.load_state_dict({diffusers_name(name): tensor.float() for name, tensor in weights.items()})
    return model.eval()


def relative_error(found, expected) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@torch.no_grad()
def check() -> bool:
    with safe_open(ROOT / "tests/fixtures/transformer/sparse.safetensors", "pt") as file:
        config, cases = (json.loads(file.metadata()[key]) for key in ("config", "cases"))
        stored = {name: file.get_tensor(name) for name in file.keys()}
    weights = {name.removeprefix("weights."): stored[name] for name in stored if name.startswith("weights.")}
    model, worst = small_model(config, weights), 0.0
    for case in cases:
        name, settings = case["name"], config | case["settings"]
        latent, text, step, expected = (stored[f"{name}.{key}"] for key in ("latent", "text", "timestep", "velocity"))
        errors = {}
        for padding in PADDINGS:
            peer = skiparse_peer(model, latent, settings["sparse_ratio"], settings["num_full_blocks"], padding)
            errors[padding] = relative_error(peer(latent, step, text, return_dict=False)[0], expected)
        print(f"{name:20}", "  ".join(f"padding {padding}: {error:.1e}" for padding, error in errors.items()))
        for key in (key for key in stored if key.startswith(f"{name}.wrong.")):
            print(f"{'':20} planted, {key.split('.')[-1]}: {relative_error(stored[key], expected):.1e}")
        worst = max(worst, *errors.values())
    print(f"largest relative error {worst:.1e}, at most {LARGEST_ERROR:.0e} expected")
    return worst <= LARGEST_ERROR
