"""Makes tests/fixtures/transformer/: layouts, and small random models with what they compute.

dense_*.safetensors holds diffusers' WanTransformer3DModel in fp32, with its sinusoid made in fp64 as Wan
does; layouts.safetensors and sparse.safetensors come from skiparse_reference.py. Weights are numbers that
bfloat16 can hold, stored in bfloat16 under Wan's names.
"""

import json
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import save_file
from skiparse_reference import MISTAKES, real_token_order, velocity
from wan_weights import diffusers_name, diffusers_sizes, random_weights

OUT = Path("tests/fixtures/transformer")
WEIGHT = "weights."


class PreciseSinusoid(torch.nn.Module):
    """Wan's sinusoid, fp64 inside, in place of diffusers' fp32 one."""

    def __init__(self, width: int):
        super().__init__()
        self.half = width // 2

    def forward(self, timestep):
        angles = timestep.double()[:, None] * 10000.0 ** -(torch.arange(self.half).double() / self.half)
        return torch.cat([angles.cos(), angles.sin()], 1).float()


def inputs(config: dict, grid: tuple, batch: int, text_rows: int, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    T, H, W = grid
    return {
        "latent": torch.randn(batch, config["in_dim"], T, 2 * H, 2 * W, generator=generator),
        "text": torch.randn(batch, text_rows, config["text_dim"], generator=generator),
        "timestep": torch.rand(batch, generator=generator) * 1000,
    }


def with_config(config: dict) -> dict:
    return {"config": json.dumps(config)}


def stored_weights(weights: dict) -> dict:
    return {WEIGHT + name: tensor for name, tensor in weights.items()}


def diffusers_model(config: dict, weights: dict) -> WanTransformer3DModel:
    """diffusers' model of `weights`, by our names, in float32 and with Wan's sinusoid."""
    model = WanTransformer3DModel(
        **diffusers_sizes(config),
        patch_size=(1, 2, 2),
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=64,
    )
    model.load_state_dict({diffusers_name(key): value.float() for key, value in weights.items()})
    model.condition_embedder.timesteps_proj = PreciseSinusoid(config["freq_dim"])
    return model


@torch.no_grad()
def make_dense(name: str, grids: list, seed: int, **sizes) -> None:
    config = dict(freq_dim=32, text_dim=20, in_dim=16, out_dim=16, eps=1e-6, skiparse_model_type="full", **sizes)
    weights = random_weights(config, seed)
    model = diffusers_model(config, weights).eval()
    tensors = stored_weights(weights)
    for i, grid in enumerate(grids):
        given = inputs(config, grid, batch=2, text_rows=7, seed=seed + 1 + i)
        given["velocity"] = model(given["latent"], given["timestep"], given["text"], return_dict=False)[0]
        tensors |= {f"{i}.{key}": value.contiguous() for key, value in given.items()}
    save_file(tensors, OUT / f"{name}.safetensors", metadata=with_config(config))


SPARSE_GRIDS = {  # per P: one that divides, one that does not, one with empty segments
    1: [(2, 3, 5)],
    2: [(2, 4, 8), (3, 5, 7), (1, 2, 1)],
    3: [(1, 9, 9), (2, 4, 7), (1, 2, 2)],
    4: [(1, 16, 16), (2, 6, 5), (1, 4, 4)],
}


@torch.no_grad()
def make_sparse() -> None:
    config = dict(
        dim=48, ffn_dim=40, freq_dim=16, text_dim=12, in_dim=4, out_dim=4, num_heads=2, num_layers=8, eps=1e-6,
        skiparse_model_type="dual_end", num_full_blocks=4,
    )  # fmt: skip
    weights = random_weights(config, seed=50)
    exact = {key: value.float() for key, value in weights.items()}
    tensors, cases = stored_weights(weights), []

    def add(settings, grid, name, **reference_options):
        given = inputs(config, grid, batch=2, text_rows=5, seed=100 + len(cases))
        given["velocity"] = velocity(exact, config | settings, **given)
        for mistake in reference_options.get("mistakes", ()):
            wrong = velocity(exact, config | settings, given["latent"], given["text"], given["timestep"], mistake)
            given[f"wrong.{mistake}"] = wrong
        if reference_options.get("plain_bf16"):
            given["plain_bf16"] = velocity(
                exact, config | settings, given["latent"], given["text"], given["timestep"], dtype=torch.bfloat16
            )
        tensors.update({f"{name}.{key}": value.contiguous() for key, value in given.items()})
        cases.append({"name": name, "settings": settings})

    for P, grids in SPARSE_GRIDS.items():
        for grid in grids:
            shape = "x".join(map(str, grid))
            whole = P == 2 and grid == (3, 5, 7)
            add({"sparse_ratio": P}, grid, f"dual_end_{P}_{shape}", mistakes=MISTAKES if whole else (), plain_bf16=whole)
    add(
        {"sparse_ratio": 2, "skiparse_model_type": "uniform", "num_full_blocks": 0},
        (2, 5, 6), "uniform_2_2x5x6", plain_bf16=True,
    )  # fmt: skip
    metadata = with_config(config) | {"cases": json.dumps(cases)}
    save_file(tensors, OUT / "sparse.safetensors", metadata=metadata)


def make_layouts() -> None:
    tensors = {}
    grids = [(1, 1, 1), (1, 4, 4), (2, 3, 5), (1, 9, 18), (3, 7, 9), (2, 16, 16), (2, 8, 12), (1, 5, 33)]
    for grid in grids:
        for P in (1, 2, 3, 4, 5):
            for pattern in ("token", "group"):
                order, offsets = real_token_order(grid, pattern, P)
                name = f"{'x'.join(map(str, grid))}.{P}.{pattern}"
                tensors[f"{name}.order"] = order.to(torch.int32)
                tensors[f"{name}.offsets"] = offsets.to(torch.int32)
    save_file(tensors, OUT / "layouts.safetensors")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    make_dense("dense_narrow_heads", [(2, 3, 5), (3, 4, 2)], seed=1, dim=48, ffn_dim=80, num_heads=2, num_layers=2)
    make_dense("dense_wide_head", [(2, 2, 3)], seed=20, dim=128, ffn_dim=64, num_heads=1, num_layers=1)
    make_sparse()
    make_layouts()
