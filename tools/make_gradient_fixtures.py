"""Makes tests/fixtures/gradients/: the flow-matching loss of small random models and its gradients.

The loss is mean((v - (noise - latent))^2), v a model's velocity at
x = sigma * noise + (1 - sigma) * latent and t = 1000 * sigma. Run from the repository root, no
arguments, the same files each time:

dense.safetensors    diffusers' WanTransformer3DModel, with its sinusoid made as Wan does
sparse.safetensors   the padded model of skiparse_reference.py, over sides that P^2 does not divide
lora.safetensors     PEFT's LoRA on diffusers' model; model and inputs are in the file that the
                     metadata calls `base`, and the metadata also says `alpha`

latent, noise        float32 [2, C, F, 2h, 2w]
sigma                float32 [2], multiples of 1/64, so that t is exact as well
text                 float32 [2, text_len, text_dim], a few rows that differ per sample, then zeros
weights.NAME         bfloat16 under Wan's names, their config in the metadata; lora.safetensors has
                     the adapter instead, as PEFT saves it but with Wan's layers: float32 that
                     bfloat16 can hold
velocity, loss       float32, loss [1]
gradient.NAME        float32, of all weights, or of the adapter's tensors

The models compute in float64 throughout; a finite difference checks every set of gradients.
"""

import json
import re
from pathlib import Path
from unittest.mock import patch

import torch
from make_transformer_fixtures import diffusers_model, stored_weights, with_config
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save
from skiparse_reference import velocity
from torch.func import functional_call
from wan_weights import diffusers_name, random_weights

OUT = Path("tests/fixtures/gradients")
SIZES = dict(
    dim=24, ffn_dim=40, freq_dim=16, text_dim=12, text_len=24, in_dim=4, out_dim=4, num_heads=2, eps=1e-6,
)  # fmt: skip
DENSE = dict(SIZES, num_layers=2, skiparse_model_type="full")
SPARSE = dict(SIZES, num_layers=8, skiparse_model_type="dual_end", num_full_blocks=4, sparse_ratio=2)
DENSE_GRID, SPARSE_GRID = (3, 5, 3), (2, 5, 7)
TEXT_ROWS = (6, 3)
SIGMAS = (45 / 64, 10 / 64)
RANK, ALPHA = 4, 8
LORA_LAYERS = ["to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2"]
PEFT_PREFIX = "base_model.model."


def inputs(config: dict, grid: tuple, seed: int) -> dict:
    generator = torch.Generator().manual_seed(seed)
    T, H, W = grid
    batch, shape = len(SIGMAS), (config["in_dim"], T, 2 * H, 2 * W)
    given = {
        "latent": torch.randn(batch, *shape, generator=generator),
        "noise": torch.randn(batch, *shape, generator=generator),
        "sigma": torch.tensor(SIGMAS),
        "text": torch.randn(batch, config["text_len"], config["text_dim"], generator=generator),
    }
    for rows, real in zip(given["text"], TEXT_ROWS):
        rows[real:] = 0
    return given


def float_means_double():
    """While entered, what a model insists on computing in float32 is computed in float64."""
    return patch.object(torch.Tensor, "float", torch.Tensor.double)


# A model here is a function of parameters by our names, noisy latent, timestep and text.


def dense_model(config: dict, weights: dict):
    model = diffusers_model(config, weights).double()

    def run(parameters, x, timestep, text):
        theirs = {diffusers_name(key): value for key, value in parameters.items()}
        return functional_call(model, theirs, (x, timestep, text), {"return_dict": False})[0]

    return run


def sparse_model(config: dict):
    def run(parameters, x, timestep, text):
        return velocity(parameters, config, x, text, timestep, dtype=torch.float64)

    return run


def lora_model(model: torch.nn.Module, their_names: dict):
    """their_names: a tensor's name with Wan's layers -> the one PEFT saves it under"""

    def run(parameters, x, timestep, text):
        live = {their_names[key].replace(".weight", ".default.weight"): value for key, value in parameters.items()}
        return functional_call(model, live, (x, timestep, text), {"return_dict": False})[0]

    return run


# Losses and gradients.


def loss_and_velocity(model, parameters: dict, given: dict) -> tuple:
    latent, noise, sigma, text = (given[name].double() for name in ("latent", "noise", "sigma", "text"))
    level = sigma[:, None, None, None, None]
    v = model(parameters, level * noise + (1 - level) * latent, 1000 * sigma, text)
    return (v - (noise - latent)).square().mean(), v


def check_slope(model, parameters: dict, given: dict, gradients: dict) -> None:
    """Along the gradient, the loss rises as fast as the gradient is long."""
    length = sum(g.square().sum() for g in gradients.values()).sqrt()

    def loss(step):
        moved = {key: value + step / length * gradients[key] for key, value in parameters.items()}
        return loss_and_velocity(model, moved, given)[0]

    with torch.no_grad():
        slope = (loss(1e-6) - loss(-1e-6)) / 2e-6
    assert abs(slope / length - 1) < 1e-6, (slope, length)


def expectation(model, parameters: dict, given: dict) -> dict:
    exact = {key: value.double().requires_grad_() for key, value in parameters.items()}
    loss, v = loss_and_velocity(model, exact, given)
    assert v.dtype == torch.float64
    gradients = dict(zip(exact, torch.autograd.grad(loss, list(exact.values()))))
    check_slope(model, exact, given, gradients)
    tensors = {"loss": loss.detach().reshape(1), "velocity": v.detach()}
    tensors |= {f"gradient.{key}": value for key, value in gradients.items()}
    return {key: value.to(torch.float32).contiguous() for key, value in tensors.items()}


# Files.


def write(name: str, tensors: dict, metadata: dict) -> None:
    """As safetensors writes it, with the metadata in order (its own differs from run to run)."""
    data = save(tensors, metadata)
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
    assert len(text) == length
    (OUT / name).write_bytes(data[:8] + text + data[8 + length :])


def make_dense() -> None:
    weights, given = random_weights(DENSE, seed=1), inputs(DENSE, DENSE_GRID, seed=2)
    expected = expectation(dense_model(DENSE, weights), weights, given)
    write("dense.safetensors", stored_weights(weights) | given | expected, with_config(DENSE))


def make_sparse() -> None:
    weights, given = random_weights(SPARSE, seed=3), inputs(SPARSE, SPARSE_GRID, seed=4)
    expected = expectation(sparse_model(SPARSE), weights, given)
    write("sparse.safetensors", stored_weights(weights) | given | expected, with_config(SPARSE))


def adapter_names(saved: list, config: dict) -> dict:
    """Name with Wan's layers -> name with diffusers'."""
    attention = [f"{kind}_attn.{letter}" for kind in ("self", "cross") for letter in "qkvo"]
    layers = [f"blocks.{i}.{layer}" for i in range(config["num_layers"]) for layer in (*attention, "ffn.0", "ffn.2")]
    ours = {diffusers_name(f"{layer}.").removesuffix("."): layer for layer in layers}
    pattern = re.compile(rf"({re.escape(PEFT_PREFIX)})(.*)(\.lora_[AB]\.weight)")
    names = {}
    for name in sorted(saved):
        prefix, layer, end = pattern.fullmatch(name).groups()
        names[f"{prefix}{ours[layer]}{end}"] = name
    assert len(names) == 2 * len(layers)
    return names


def make_lora() -> None:
    weights, given = random_weights(DENSE, seed=1), inputs(DENSE, DENSE_GRID, seed=2)
    settings = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=LORA_LAYERS)
    model = get_peft_model(diffusers_model(DENSE, weights).double(), settings)
    saved = get_peft_model_state_dict(model)
    names = adapter_names(list(saved), DENSE)
    generator, adapter = torch.Generator().manual_seed(5), {}
    for name, theirs in names.items():
        drawn = (0.2 if "lora_A" in name else 0.1) * torch.randn(saved[theirs].shape, generator=generator)
        adapter[name] = drawn.bfloat16().to(torch.float32)
    expected = expectation(lora_model(model, names), adapter, given)
    write("lora.safetensors", adapter | expected, {"base": "dense.safetensors", "alpha": str(ALPHA)})


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with float_means_double():
        make_dense()
        make_sparse()
        make_lora()
