"""Makes tests/fixtures/formats/: small checkpoints as ComfyUI's files are laid out, and what they mean.

transformer_*.safetensors hold one transformer in fp8: plain, and scaled in the older and the newer layout
with three ways to mark it. expected.safetensors holds "FILE/NAME", every weight in float32 under Wan's names:
what is stored times its scale. umt5_fp8.safetensors is a text encoder with scaled linears and the tokenizer
inside; umt5_expected.safetensors what transformers computes with the same weights.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel
from wan_weights import random_weights

OUT = Path("tests/fixtures/formats")
CONFIG = dict(dim=12, ffn_dim=24, freq_dim=8, text_dim=10, in_dim=4, out_dim=4, num_layers=1)
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def is_linear(name: str) -> bool:
    return name.startswith("blocks.") and name.endswith(".weight") and "norm" not in name


def scaled(weight: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    scale = weight.float().abs().max() / torch.finfo(dtype).max
    return (weight.float() / scale).to(dtype), scale


def meaning(stored: torch.Tensor, scale: torch.Tensor | None = None) -> torch.Tensor:
    return (stored.double() * (1.0 if scale is None else scale.double())).float()


def older(weights: dict) -> tuple[dict, dict]:
    """Behind a prefix; the scales in float32 and bfloat16; scales of activations beside them."""
    prefix = "model.diffusion_model."
    tensors, expected = {prefix + "scaled_fp8": torch.zeros(0, dtype=E4M3)}, {}
    for i, (name, weight) in enumerate(weights.items()):
        if not is_linear(name):
            tensors[prefix + name], expected[name] = weight, meaning(weight)
            continue
        stored, scale = scaled(weight, E4M3)
        if i % 2:
            scale = scale.bfloat16()
        layer = prefix + name.removesuffix(".weight")
        tensors |= {f"{layer}.weight": stored, f"{layer}.scale_weight": scale, f"{layer}.scale_input": torch.tensor(1.0)}
        expected[name] = meaning(stored, scale)
    return tensors, expected


def newer(weights: dict, dtype: torch.dtype, name_of_format: str, in_metadata: bool) -> tuple[dict, dict, dict]:
    tensors, expected, layers = {}, {}, {}
    for i, (name, weight) in enumerate(weights.items()):
        if not is_linear(name):
            tensors[name], expected[name] = weight, meaning(weight)
            continue
        stored, scale = scaled(weight, dtype)
        layer = name.removesuffix(".weight")
        layers[layer] = {"format": name_of_format, "full_precision_matrix_mult": False}
        tensors |= {f"{layer}.weight": stored, f"{layer}.weight_scale": scale if i % 2 else scale.reshape(1)}
        if i % 3 == 0:
            tensors[f"{layer}.input_scale"] = torch.tensor(0.5)
        expected[name] = meaning(stored, scale)
    if in_metadata:
        return tensors, expected, {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    for layer, what in layers.items():
        tensors[f"{layer}.comfy_quant"] = torch.tensor(list(json.dumps(what).encode()), dtype=torch.uint8)
    return tensors, expected, {}


def make_transformers() -> None:
    weights = random_weights(CONFIG, seed=11)
    plain = {name: weight.to(E4M3 if is_linear(name) else torch.float16) for name, weight in weights.items()}
    files = {
        "plain": (plain, {name: meaning(weight) for name, weight in plain.items()}, {}),
        "older": (*older(weights), {}),
        "newer": newer(weights, E4M3, "float8_e4m3fn", in_metadata=False),
        "newer_e5m2": newer(weights, E5M2, "float8_e5m2", in_metadata=True),
    }
    everything = {}
    for name, (tensors, expected, metadata) in files.items():
        save_file(tensors, OUT / f"transformer_{name}.safetensors", metadata=metadata)
        everything |= {f"{name}/{key}": value for key, value in expected.items() if is_linear(key) or name == "plain"}
    save_file(everything, OUT / "expected.safetensors")


@torch.no_grad()
def make_umt5() -> None:
    torch.manual_seed(12)
    config = UMT5Config(
        vocab_size=64, d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=3, relative_attention_num_buckets=32,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    model = UMT5EncoderModel(config).eval()
    model.load_state_dict({key: torch.randn_like(value) * (0.5 if "norm" in key else 0.2) for key, value in model.state_dict().items()})
    state = {key: value for key, value in model.state_dict().items() if key != "encoder.embed_tokens.weight"}
    spiece = Path("tests/fixtures/text/bytes.model").read_bytes()
    tensors = {"scaled_fp8": torch.zeros(2, dtype=E4M3), "spiece_model": torch.tensor(list(spiece), dtype=torch.uint8)}
    meant = {}
    for key, weight in state.items():
        if "SelfAttention" in key and "bias" not in key or "DenseReluDense" in key:
            stored, scale = scaled(weight, E4M3)
            tensors |= {key: stored, key.removesuffix("weight") + "scale_weight": scale}
            meant[key] = meaning(stored, scale)
        else:
            tensors[key] = weight.half()
            meant[key] = meaning(tensors[key])
    meant["encoder.embed_tokens.weight"] = meant["shared.weight"]
    model.load_state_dict(meant)
    ids = torch.randint(3, 64, (2, 9))
    mask = torch.ones_like(ids)
    mask[1, 6:] = 0
    output = model(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]
    save_file(tensors, OUT / "umt5_fp8.safetensors")
    save_file({"ids": ids, "mask": mask, "embeddings": output}, OUT / "umt5_expected.safetensors")


if __name__ == "__main__":
    OUT.mkdir(parents=True, exist_ok=True)
    make_transformers()
    make_umt5()
