"""Random weights of a small transformer under Wan's names, and diffusers' names for them."""

import re

import torch


def diffusers_sizes(config: dict) -> dict:
    """Arguments of diffusers' WanTransformer3DModel for a config of ours."""
    same = ("text_dim", "freq_dim", "ffn_dim", "num_layers", "eps")
    return {
        "num_attention_heads": config["num_heads"],
        "attention_head_dim": config["dim"] // config["num_heads"],
        "in_channels": config["in_dim"],
        "out_channels": config["out_dim"],
    } | {name: config[name] for name in same}


def random_weights(config: dict, seed: int) -> dict:
    """Small queries, keys and patch embeddings, so that eps and the order of norms show."""
    generator = torch.Generator().manual_seed(seed)
    C, ffn, weights = config["dim"], config["ffn_dim"], {}

    def draw(name, *shape, around=0.0, spread=0.1):
        weights[name] = (around + spread * torch.randn(shape, generator=generator)).bfloat16()

    def draw_linear(name, out, in_, spread=0.7):
        draw(f"{name}.weight", out, in_, spread=spread * in_**-0.5)
        draw(f"{name}.bias", out, spread=0.1 * spread)

    draw("patch_embedding.weight", C, config["in_dim"], 1, 2, 2, spread=0.02 * (4 * config["in_dim"]) ** -0.5)
    draw("patch_embedding.bias", C, spread=0.01)
    draw_linear("text_embedding.0", C, config["text_dim"])
    draw_linear("text_embedding.2", C, C)
    draw_linear("time_embedding.0", C, config["freq_dim"])
    draw_linear("time_embedding.2", C, C)
    draw_linear("time_projection.1", 6 * C, C)
    for i in range(config["num_layers"]):
        draw(f"blocks.{i}.modulation", 1, 6, C, spread=0.3)
        for attention in ("self_attn", "cross_attn"):
            for letter in "qkvo":
                spread = 0.01 if letter in "qk" else 0.7
                draw_linear(f"blocks.{i}.{attention}.{letter}", C, C, spread)
            for letter in "qk":
                draw(f"blocks.{i}.{attention}.norm_{letter}.weight", C, around=1.0, spread=0.3)
        draw(f"blocks.{i}.norm3.weight", C, around=1.0, spread=0.3)
        draw(f"blocks.{i}.norm3.bias", C)
        draw_linear(f"blocks.{i}.ffn.0", ffn, C)
        draw_linear(f"blocks.{i}.ffn.2", C, ffn)
    draw("head.modulation", 1, 2, C, spread=0.3)
    draw_linear("head.head", 4 * config["out_dim"], C)
    return weights


def diffusers_name(name: str) -> str:
    for ours, theirs in (
        (r"^text_embedding\.0", "condition_embedder.text_embedder.linear_1"),
        (r"^text_embedding\.2", "condition_embedder.text_embedder.linear_2"),
        (r"^time_embedding\.0", "condition_embedder.time_embedder.linear_1"),
        (r"^time_embedding\.2", "condition_embedder.time_embedder.linear_2"),
        (r"^time_projection\.1", "condition_embedder.time_proj"),
        (r"^head\.modulation", "scale_shift_table"),
        (r"^head\.head", "proj_out"),
        (r"\.modulation", ".scale_shift_table"),
        (r"\.self_attn\.([qkv])\.", r".attn1.to_\1."),
        (r"\.cross_attn\.([qkv])\.", r".attn2.to_\1."),
        (r"\.self_attn\.o\.", ".attn1.to_out.0."),
        (r"\.cross_attn\.o\.", ".attn2.to_out.0."),
        (r"\.self_attn\.", ".attn1."),
        (r"\.cross_attn\.", ".attn2."),
        (r"\.norm3\.", ".norm2."),
        (r"\.ffn\.0\.", ".ffn.net.0.proj."),
        (r"\.ffn\.2\.", ".ffn.net.2."),
    ):
        name = re.sub(ours, theirs, name)
    return name
