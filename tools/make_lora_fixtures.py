"""Makes tests/fixtures/lora/: a small transformer, random LoRAs of every family, and the weights they give.

base.safetensors holds the transformer under Wan's names and its config in the metadata; one file or folder
is one LoRA. expected.safetensors holds "CASE/NAME", the merged weights that differ from the base, and its
metadata "cases" says which LoRAs with which strengths make a case. Where diffusers or peft read a format,
their own loaders and fusing make the expectation ("by" in the metadata says who); elsewhere the formulas
below do, in float64.
"""

import json
import shutil
from pathlib import Path

import torch
from diffusers import WanPipeline, WanTransformer3DModel
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from wan_weights import diffusers_name, random_weights

OUT = Path("tests/fixtures/lora")
CONFIG = dict(
    dim=12, ffn_dim=16, freq_dim=8, text_dim=10, text_len=512, in_dim=16, out_dim=16, num_heads=1, num_layers=2,
    eps=1e-6, skiparse_model_type="full",
)  # fmt: skip
ATTENTION = [f"{kind}_attn.{letter}" for kind in ("self", "cross") for letter in "qkvo"]
BLOCK_LINEARS = [f"blocks.{i}.{layer}" for i in range(CONFIG["num_layers"]) for layer in (*ATTENTION, "ffn.0", "ffn.2")]
OUTER_LINEARS = ["text_embedding.0", "text_embedding.2", "time_embedding.0", "time_embedding.2", "time_projection.1"]
NEW_NAME = {f"{diffusers_name(layer + '.')}"[:-1]: layer for layer in BLOCK_LINEARS + OUTER_LINEARS + ["head.head"]}


class Random:
    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, dtype=torch.float32, spread=0.3):
        return (spread * torch.randn(shape, generator=self.generator)).to(dtype)


def pair(base: dict, layer: str, rank: int, random: Random, dtype=torch.float32) -> tuple:
    """down [r, in], up [out, r]; of a convolution, as trainers write it, [r, in, kernel] and [out, r, 1...]."""
    out, in_, *kernel = base[f"{layer}.weight"].shape
    return random(rank, in_, *kernel, dtype=dtype), random(out, rank, *[1] * len(kernel), dtype=dtype)


def product(down: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return (up.double().flatten(1) @ down.double().flatten(1)).reshape(up.shape[0], *down.shape[1:])


# Formulas.


def add(weights: dict, name: str, change: torch.Tensor, factor: float) -> None:
    weights[name] = weights[name].double() + factor * change.double()


def comfy_everything(base: dict) -> tuple[dict, callable]:
    """Pairs with and without alpha in both spellings, differences of weights, biases, modulation and norms."""
    random, lora, changes = Random(3), {}, []
    for i, layer in enumerate(BLOCK_LINEARS + OUTER_LINEARS + ["head.head", "patch_embedding"]):
        rank = 1 + i % 3
        down, up = pair(base, layer, rank, random, dtype=[torch.float32, torch.bfloat16, torch.float16][i % 3])
        ends = ("lora_down", "lora_up") if i % 2 else ("lora_A", "lora_B")
        lora[f"diffusion_model.{layer}.{ends[0]}.weight"] = down
        lora[f"diffusion_model.{layer}.{ends[1]}.weight"] = up
        alpha = [None, 2.5, 0.5][i % 3]
        if alpha is not None:
            dtype = [torch.float32, torch.float16, torch.bfloat16, torch.float64][i % 4]
            lora[f"diffusion_model.{layer}.alpha"] = torch.tensor(alpha, dtype=dtype)
        changes.append((f"{layer}.weight", product(down, up), (alpha / rank) if alpha else 1.0))
    for layer, end, name in (
        ("blocks.0.self_attn.q", "diff_b", "blocks.0.self_attn.q.bias"),
        ("blocks.1.ffn.2", "diff_b", "blocks.1.ffn.2.bias"),
        ("blocks.0.ffn.0", "diff", "blocks.0.ffn.0.weight"),
        ("blocks.0.norm3", "diff", "blocks.0.norm3.weight"),
        ("blocks.0.norm3", "diff_b", "blocks.0.norm3.bias"),
        ("blocks.1.self_attn.norm_q", "diff", "blocks.1.self_attn.norm_q.weight"),
        ("blocks.0", "diff_m", "blocks.0.modulation"),
        ("blocks.1.modulation", "diff", "blocks.1.modulation"),
        ("head", "diff_m", "head.modulation"),
        ("patch_embedding", "diff", "patch_embedding.weight"),
        ("time_projection.1", "diff_b", "time_projection.1.bias"),
        ("text_embedding.0", "diff_b", "text_embedding.0.bias"),
    ):
        lora[f"diffusion_model.{layer}.{end}"] = random(*base[name].shape)
        changes.append((name, lora[f"diffusion_model.{layer}.{end}"], 1.0))

    def merge(weights: dict, strength: float) -> None:
        for name, change, scale in changes:
            add(weights, name, change, strength * scale)

    return lora, merge


def kohya_outer(base: dict) -> tuple[dict, callable]:
    """Two underscores behind "unet", no alphas, text, time and head layers."""
    random, lora, changes = Random(4), {}, []
    for layer in ["blocks.1.ffn.0", "blocks.0.cross_attn.k", *OUTER_LINEARS, "head.head", "patch_embedding"]:
        down, up = pair(base, layer, 2, random)
        place = "lora_unet__" + layer.replace(".", "_")
        lora[f"{place}.lora_down.weight"], lora[f"{place}.lora_up.weight"] = down, up
        changes.append((f"{layer}.weight", product(down, up)))

    def merge(weights: dict, strength: float) -> None:
        for name, change in changes:
            add(weights, name, change, strength)

    return lora, merge


def spellings(base: dict) -> tuple[dict, callable]:
    """Rarer ends and prefixes."""
    random, lora, changes = Random(5), {}, []
    places = [
        ("transformer.blocks.0.attn1.to_q{}", "_lora.{}.weight", "blocks.0.self_attn.q"),
        ("transformer.blocks.0.attn2.to_out.0{}", ".lora.{}.weight", "blocks.0.cross_attn.o"),
        ("blocks.1.ffn.net.0.proj{}", ".lora_linear_layer.{}.weight", "blocks.1.ffn.0"),
        ("blocks.0.self_attn.v{}", ".lora_{}.weight", "blocks.0.self_attn.v"),
        ("model.diffusion_model.blocks.1.self_attn.o{}", ".lora_{}.weight", "blocks.1.self_attn.o"),
    ]
    for place, end, layer in places:
        down, up = pair(base, layer, 2, random)
        lora[place.format(end.format("down"))], lora[place.format(end.format("up"))] = down, up
        changes.append((f"{layer}.weight", product(down, up)))

    def merge(weights: dict, strength: float) -> None:
        for name, change in changes:
            add(weights, name, change, strength)

    return lora, merge


# Other people's loaders.


def diffusers_model(base: dict) -> WanTransformer3DModel:
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=CONFIG["num_heads"], attention_head_dim=CONFIG["dim"],
        in_channels=16, out_channels=16, text_dim=CONFIG["text_dim"], freq_dim=CONFIG["freq_dim"],
        ffn_dim=CONFIG["ffn_dim"], num_layers=CONFIG["num_layers"], cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", eps=CONFIG["eps"], rope_max_seq_len=32,
    )  # fmt: skip
    model.load_state_dict({diffusers_name(key): value.float() for key, value in base.items()})
    return model


def merged_by_diffusers(base: dict, loras: list) -> dict:
    """Wan name -> weight, all LoRAs (file, strength) fused at once."""
    model = diffusers_model(base)
    names = []
    for i, (file, strength) in enumerate(loras):
        state, metadata = WanPipeline.lora_state_dict(OUT / file, return_lora_metadata=True)
        WanPipeline.load_lora_into_transformer(state, model, adapter_name=f"a{i}", metadata=metadata)
        names.append(f"a{i}")
    model.set_adapters(names, [strength for _, strength in loras])
    model.fuse_lora()
    model.unload_lora()
    result = model.state_dict()
    return {key: result[diffusers_name(key)] for key in base}


class Node(torch.nn.Module):
    pass


def wan_tree(base: dict) -> torch.nn.Module:
    """Linear layers under Wan's names, so that peft can be applied to them."""
    root = Node()
    for name, weight in base.items():
        if not name.endswith(".weight") or weight.dim() != 2:
            continue
        parent = root
        *path, last = name.removesuffix(".weight").split(".")
        for step in path:
            if not hasattr(parent, step):
                parent.add_module(step, Node())
            parent = getattr(parent, step)
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = weight.float(), base[name.removesuffix("weight") + "bias"].float()
        parent.add_module(last, linear)
    return root


def fill(module: torch.nn.Module, seed: int) -> None:
    random = Random(seed)
    for name, parameter in sorted(module.named_parameters()):
        if "lora_" in name:
            parameter.data = random(*parameter.shape)


def make_peft(base: dict, name: str, seed: int, **settings) -> dict:
    """A folder as PEFT saves it, the same as a live state dict, and what PEFT merges."""
    config = LoraConfig(target_modules=r".*(self_attn\.[qkvo]|ffn\.[02]|text_embedding\.0)", **settings)
    model = get_peft_model(wan_tree(base), config)
    fill(model, seed)
    model.save_pretrained(OUT / name)
    (OUT / name / "README.md").unlink()
    live = {key: value for key, value in model.state_dict().items() if "lora_" in key}
    loaded = PeftModel.from_pretrained(wan_tree(base), OUT / name)
    merged = loaded.merge_and_unload().state_dict()
    return {"live": live, "merged": dict(base) | dict(merged)}


def make_diffusers_saved(base: dict, name: str) -> None:
    """As diffusers' trainers save: the alpha stands in the metadata only."""
    model = diffusers_model(base)
    model.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=["to_q", "to_v", "proj", "net.2", "linear_1"]))
    fill(model, 6)
    WanPipeline.save_lora_weights(
        OUT / name,
        transformer_lora_layers=get_peft_model_state_dict(model),
        transformer_lora_adapter_metadata=model.peft_config["default"].to_dict(),
    )


def make_diffusers_plain(base: dict, name: str) -> None:
    """No alpha anywhere; a bias for some layers."""
    random, lora = Random(7), {}
    for i, layer in enumerate(BLOCK_LINEARS + ["text_embedding.0", "time_embedding.2", "head.head"]):
        place = "transformer." + diffusers_name(layer + ".")[:-1]
        lora[f"{place}.lora_A.weight"], lora[f"{place}.lora_B.weight"] = pair(base, layer, 2, random)
    save_file(lora, OUT / name)


def make_comfy_simple(base: dict, name: str) -> None:
    """What diffusers' converter takes of this family: alphas, and biases of the same layers."""
    random, lora = Random(8), {}
    for i, layer in enumerate(BLOCK_LINEARS):
        down, up = pair(base, layer, 2, random)
        lora[f"diffusion_model.{layer}.lora_down.weight"], lora[f"diffusion_model.{layer}.lora_up.weight"] = down, up
        lora[f"diffusion_model.{layer}.alpha"] = torch.tensor(3.0 if i % 2 else 0.25)
        lora[f"diffusion_model.{layer}.diff_b"] = random(up.shape[0])
    save_file(lora, OUT / name)


def make_kohya(base: dict, name: str) -> None:
    random, lora = Random(9), {}
    for i, layer in enumerate(BLOCK_LINEARS):
        place = "lora_unet_" + layer.replace(".", "_")
        lora[f"{place}.lora_down.weight"], lora[f"{place}.lora_up.weight"] = pair(base, layer, 3, random)
        lora[f"{place}.alpha"] = torch.tensor(1.5 if i % 2 else 3.0)
    save_file(lora, OUT / name)


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    base = random_weights(CONFIG, seed=1)
    save_file(base, OUT / "base.safetensors", metadata={"config": json.dumps(CONFIG)})
    expected, cases = {}, []

    def add_case(name: str, by: str, loras: list, weights: dict) -> None:
        cases.append({"name": name, "by": by, "loras": [[file, strength] for file, strength in loras]})
        changed = 0
        for key, value in weights.items():
            if not torch.equal(value.double(), base[key].double()):
                expected[f"{name}/{key}"] = value.float().contiguous()
                changed += 1
        assert changed > 0, name

    make_diffusers_saved(base, "diffusers_saved")
    make_diffusers_plain(base, "diffusers_plain.safetensors")
    make_comfy_simple(base, "comfy_simple.safetensors")
    make_kohya(base, "kohya.safetensors")
    for file, strength in (
        ("diffusers_saved/pytorch_lora_weights.safetensors", 1.0),
        ("diffusers_plain.safetensors", 0.75),
        ("comfy_simple.safetensors", 1.25),
        ("kohya.safetensors", -0.5),
    ):
        add_case(file.split(".")[0].split("/")[0], "diffusers", [(file, strength)],
                 merged_by_diffusers(base, [(file, strength)]))  # fmt: skip
    several = [("kohya.safetensors", 0.8), ("diffusers_plain.safetensors", -0.3), ("comfy_simple.safetensors", 1.0)]
    add_case("several", "diffusers", several, merged_by_diffusers(base, several))

    for name, make in (("comfy_everything", comfy_everything), ("kohya_outer", kohya_outer), ("spellings", spellings)):
        lora, merge = make(base)
        save_file(lora, OUT / f"{name}.safetensors")
        weights = dict(base)
        merge(weights, 0.7)
        add_case(name, "formulas", [(f"{name}.safetensors", 0.7)], weights)

    for name, settings in (
        ("peft", dict(r=2, lora_alpha=5, alpha_pattern={"blocks.0.ffn.0": 3, "self_attn.q": 7})),
        ("peft_rslora", dict(r=4, lora_alpha=3, use_rslora=True, lora_bias=True)),
    ):
        made = make_peft(base, name, seed=len(cases), **settings)
        add_case(name, "peft", [(name, 1.0)], made["merged"])
    live = make_peft(base, "peft_live", seed=40, r=2, lora_alpha=2)  # alpha / r = 1, which no alpha means too
    shutil.rmtree(OUT / "peft_live")
    save_file({key: value.contiguous() for key, value in live["live"].items()}, OUT / "peft_live.safetensors")
    add_case("peft_live", "peft", [("peft_live.safetensors", 1.0)], live["merged"])

    save_file(expected, OUT / "expected.safetensors", metadata={"cases": json.dumps(cases)})
    assert load_file(OUT / "expected.safetensors")


if __name__ == "__main__":
    main()
