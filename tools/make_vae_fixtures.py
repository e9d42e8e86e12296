"""Makes tests/fixtures/vae/: small random Wan VAEs of diffusers with what they encode and decode.

tiled.safetensors holds what the VAE of wan.safetensors makes of frames larger than a tile, case by case:
NAME.tiling (size, stride), pixels, latent, given, kept and video as in the other files.
"""

import json
import math
import re
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

OUT = Path("tests/fixtures/vae")


def wan_name(name: str, blocks: int, levels: int) -> str:
    """Name of a diffusers tensor in the original Wan checkpoint."""
    fixed = {
        "quant_conv": "conv1",
        "post_quant_conv": "conv2",
        "encoder.conv_in": "encoder.conv1",
        "decoder.conv_in": "decoder.conv1",
        "encoder.norm_out": "encoder.head.0",
        "decoder.norm_out": "decoder.head.0",
        "encoder.conv_out": "encoder.head.2",
        "decoder.conv_out": "decoder.head.2",
    }
    module, leaf = name.rsplit(".", 1)
    if module in fixed:
        return f"{fixed[module]}.{leaf}"
    name = name.replace("encoder.down_blocks.", "encoder.downsamples.")
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"middle.{2 * int(m[1])}", name)
    name = name.replace("mid_block.attentions.0", "middle.1")
    per_level = blocks + 2  # the decoder's residual blocks and its upsampling
    name = re.sub(
        r"up_blocks\.(\d+)\.resnets\.(\d+)",
        lambda m: f"upsamples.{int(m[1]) * per_level + int(m[2])}",
        name,
    )
    name = re.sub(
        r"up_blocks\.(\d+)\.upsamplers\.0",
        lambda m: f"upsamples.{int(m[1]) * per_level + blocks + 1}",
        name,
    )
    for theirs, ours in (
        (".norm1.", ".residual.0."),
        (".conv1.", ".residual.2."),
        (".norm2.", ".residual.3."),
        (".conv2.", ".residual.6."),
    ):
        if re.search(r"(downsamples|upsamples|middle)\.\d+" + re.escape(theirs), name):
            name = name.replace(theirs, ours)
    return name.replace(".conv_shortcut.", ".shortcut.")


def make(stem: str, frames: tuple, height: int, width: int, **config) -> AutoencoderKLWan:
    torch.manual_seed(len(frames))
    vae = AutoencoderKLWan(**config).eval()
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            noise = torch.randn_like(parameter)
            if name.endswith("gamma"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.2 * noise)
            else:  # keeps the variance through the layers
                parameter.copy_(noise / math.sqrt(parameter[0].numel()))
            parameter.copy_(parameter.bfloat16().float())
    names = {n: wan_name(n, config["num_res_blocks"], len(config["dim_mult"])) for n in vae.state_dict()}
    assert len(set(names.values())) == len(names)
    tensors = {names[n]: t.bfloat16() for n, t in vae.state_dict().items()}
    mean = torch.tensor(config["latents_mean"]).view(1, -1, 1, 1, 1)
    std = torch.tensor(config["latents_std"]).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        for count in frames:
            # Inputs are bytes and bfloat16 so that the files stay small and the values exact.
            pixels = torch.randint(0, 256, (1, 3, count, height, width), dtype=torch.uint8)
            video = pixels.float() / 127.5 - 1
            latent = (vae.encode(video).latent_dist.mean - mean) / std
            given = torch.randn_like(latent).bfloat16()
            decoded = vae.decode(given.float() * std + mean).sample.clamp(-1, 1)
            print(stem, count, "latent", latent.abs().max().item(), "video", decoded.abs().max().item(),
                  "clamped", (decoded.abs() == 1).float().mean().item())
            tensors[f"case.{count}.pixels"] = pixels
            tensors[f"case.{count}.latent"] = latent
            tensors[f"case.{count}.given"] = given
            # Every tenth frame and the last of a long clip, all of a short one.
            kept = sorted(set(range(0, count, 1 if count < 20 else 10)) | {count - 1})
            tensors[f"case.{count}.kept"] = torch.tensor(kept)
            tensors[f"case.{count}.video"] = decoded[:, :, kept]
    save_file({n: t.contiguous() for n, t in tensors.items()}, OUT / f"{stem}.safetensors")
    keys = {k: v for k, v in vae.config.items() if k != "_use_default_values"}
    (OUT / f"{stem}.json").write_text(json.dumps(keys, indent=2, sort_keys=True) + "\n")
    return vae


# name: tile size, stride, height, width, frames. The last tiles are 8 pixels thin in `thin`, and in `narrow`
# the second last one is clipped as well; `low` is cut one way only; `apart` has no overlap.
TILED = {"thin": (32, 24, 56, 56, 5), "narrow": (40, 16, 40, 72, 9), "low": (32, 16, 16, 56, 5),
         "apart": (24, 24, 48, 32, 5)}


def make_tiled(vae: AutoencoderKLWan) -> None:
    generator = torch.Generator().manual_seed(11)
    mean = torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)
    std = torch.tensor(vae.config.latents_std).view(1, -1, 1, 1, 1)
    tensors = {}
    for name, (size, stride, height, width, frames) in TILED.items():
        vae.enable_tiling(size, size, stride, stride)
        pixels = torch.randint(0, 256, (1, 3, frames, height, width), dtype=torch.uint8, generator=generator)
        with torch.no_grad():
            latent = (vae.encode(pixels.float() / 127.5 - 1).latent_dist.mean - mean) / std
            given = torch.randn(latent.shape, generator=generator).bfloat16()
            decoded = vae.decode(given.float() * std + mean).sample
        kept = [0, frames - 1]
        parts = {"tiling": torch.tensor([size, stride]), "pixels": pixels, "latent": latent, "given": given,
                 "kept": torch.tensor(kept), "video": decoded[:, :, kept]}
        tensors.update({f"{name}.{part}": tensor.contiguous() for part, tensor in parts.items()})
    save_file(tensors, OUT / "tiled.safetensors")


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(7)
    wan = make("wan", (1, 17, 81), 16, 24, base_dim=6, z_dim=16, dim_mult=[1, 2, 4, 4],
         num_res_blocks=2, attn_scales=[], temperal_downsample=[False, True, True],
         latents_mean=torch.randn(16, generator=generator).tolist(),
         latents_std=(0.5 + torch.rand(16, generator=generator)).tolist())
    make_tiled(wan)
    make("other", (5,), 12, 8, base_dim=4, z_dim=4, dim_mult=[2, 1, 3],
         num_res_blocks=1, attn_scales=[], temperal_downsample=[True, False],
         latents_mean=[0.5, -0.25, 0.0, 1.0], latents_std=[2.0, 0.5, 1.0, 1.5])


if __name__ == "__main__":
    main()
