"""Makes tests/fixtures/lora_training/: LoRAs that ospnext trained, and one of PEFT, with what PEFT makes of them.

  tools/make_lora_training_fixtures.py [PROGRAM]    from the repository's root; PROGRAM: build/cpu/ospnext

drawn/             two steps of a LoRA of rank 2 for models/tiny, as ospnext train saves it
peft/              a LoRA of PEFT with ranks, alphas and a root of the rank of its own
continued/         peft/ after one step of ospnext train whose learning rate changes nothing
sums.safetensors   x.LAYER [in], and CASE.LAYER [out]: the change of the layer's output for x that PEFT
                   computes, in float64, from the folder CASE
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from make_lora_fixtures import Node, Random, fill
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

OUT = Path("tests/fixtures/lora_training")
MODEL = Path("models/tiny")
TARGETS = ["blocks.0.self_attn.q", "blocks.11.ffn.*", "head", "time_projection.1", "text_embedding.0"]
PEFT_TARGETS = ["blocks.3.cross_attn.k", "blocks.3.ffn.2", "blocks.4.ffn.2"]


def linear_sizes() -> dict:
    """Layer -> (in, out), by the sizes of the model."""
    config = json.loads((MODEL / "transformer" / "config.json").read_text())
    dim, ffn = config["dim"], config["ffn_dim"]
    sizes = {
        "text_embedding.0": (config["text_dim"], dim), "text_embedding.2": (dim, dim),
        "time_embedding.0": (config["freq_dim"], dim), "time_embedding.2": (dim, dim),
        "time_projection.1": (dim, 6 * dim), "head.head": (dim, 4 * config["out_dim"]),
    }  # fmt: skip
    for i in range(config["num_layers"]):
        for attention in ("self_attn", "cross_attn"):
            sizes |= {f"blocks.{i}.{attention}.{letter}": (dim, dim) for letter in "qkvo"}
        sizes |= {f"blocks.{i}.ffn.0": (dim, ffn), f"blocks.{i}.ffn.2": (ffn, dim)}
    return sizes


def zero_tree() -> torch.nn.Module:
    """The model's linear layers with weights of zero: what a layer returns is the change of its adapter."""
    root = Node()
    for name, (in_, out) in linear_sizes().items():
        parent = root
        *path, last = name.split(".")
        for step in path:
            if not hasattr(parent, step):
                parent.add_module(step, Node())
            parent = getattr(parent, step)
        linear = torch.nn.Linear(in_, out)
        torch.nn.init.zeros_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        parent.add_module(last, linear)
    return root


def train(program: str, output: Path, *flags: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [program, "train", "--output", folder, "--initial-model", MODEL, "--sizes", "32x32", "--clips", "2",
             "--batch-size", "2", "--warmup-steps", "0", *flags],
            check=True,
        )  # fmt: skip
        shutil.copytree(Path(folder) / "lora", output)


def sums_by_peft(case: str, x: dict) -> dict:
    model = PeftModel.from_pretrained(zero_tree(), OUT / case).double()
    stored = load_file(OUT / case / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(model)
    assert loaded.keys() == stored.keys(), "PEFT made other layers than the file has"
    assert all(torch.equal(loaded[key], stored[key].double()) for key in stored)
    sums = {}
    for name, module in model.base_model.model.named_modules():
        if isinstance(module, LoraLayer):
            in_ = module.in_features
            x.setdefault(f"x.{name}", Random(len(x))(in_))
            sums[f"{case}.{name}"] = module(x[f"x.{name}"].double()).detach()
            assert sums[f"{case}.{name}"].abs().max() > 0
    return sums


def main() -> None:
    program = sys.argv[1] if len(sys.argv) > 1 else "build/cpu/ospnext"
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    targets = [argument for target in TARGETS for argument in ("--lora-targets", target)]
    train(program, OUT / "drawn", "--lora-rank", "2", "--lora-alpha", "3", *targets, "--steps", "2",
          "--learning-rate", "1e-2")  # fmt: skip
    config = LoraConfig(
        target_modules=PEFT_TARGETS, r=2, lora_alpha=5, use_rslora=True, rank_pattern={"blocks.3.ffn.2": 3},
        alpha_pattern={"ffn.2": 7},
    )  # fmt: skip
    model = get_peft_model(zero_tree(), config)
    fill(model, 4)
    model.save_pretrained(OUT / "peft")
    (OUT / "peft" / "README.md").unlink()
    train(program, OUT / "continued", "--initial-lora", str(OUT / "peft"), "--steps", "1", "--learning-rate", "1e-12",
          "--weight-decay", "0")  # fmt: skip
    x = {}
    sums = sums_by_peft("drawn", x) | sums_by_peft("peft", x) | sums_by_peft("continued", x)
    save_file(sums | x, OUT / "sums.safetensors")


if __name__ == "__main__":
    main()
