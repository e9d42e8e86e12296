"""The sparse transformer as OSP-Next's published scheme has it: pads, repeats and masks.

An independent reference for the C++ model, which does none of the three: the grid is padded to multiples
of P², sub-sequences become batch entries, text and modulation are repeated P² times, and padded keys are
masked. Weights are a dictionary in Wan's names; plain torch and einops, written from the description of
the method. `mistake` plants one error on purpose, to show that a comparison would notice it.
"""

import torch
import torch.nn.functional as F
from einops import rearrange, repeat

MISTAKES = ("pattern order", "row and column axes", "axis order", "norm after head split", "norm after rotation", "eps")


def pattern_of_block(i: int, config: dict) -> str:
    kind, layers = config["skiparse_model_type"], config["num_layers"]
    half = config["num_full_blocks"] // 2
    if kind == "full" or i < half or i >= layers - half:
        return "full"
    return "token" if i % 2 == 0 else "group"


def padded_side(n: int, P: int) -> int:
    return n + (P * P - n % (P * P)) % (P * P)


def pad_grid(x, grid, P, value=0):
    """[b, T·H·W, ...] -> [b, T, H', W', ...], filled up at the bottom and on the right."""
    T, H, W = grid
    x = x.reshape(x.shape[0], T, H, W, *x.shape[2:])
    out = x.new_full((x.shape[0], T, padded_side(H, P), padded_side(W, P), *x.shape[4:]), value)
    out[:, :, :H, :W] = x
    return out


SPLIT = {
    "token": "b t (h p) (w q) c -> (p q b) (t h w) c",
    "group": "b t (h p a) (w q e) c -> (p q b) (t h a w e) c",
}


def to_sub_sequences(x, pattern, P):
    """[b, T, H', W', c] -> [P²·b, l, c]"""
    sizes = dict(p=P, q=P) if pattern == "token" else dict(p=P, q=P, a=P, e=P)
    return rearrange(x, SPLIT[pattern], **sizes)


def to_grid(x, pattern, P, T, rows, columns):
    """Inverse of to_sub_sequences."""
    left, right = SPLIT[pattern].split(" -> ")
    if pattern == "token":
        sizes = dict(p=P, q=P, t=T, h=rows // P, w=columns // P)
    else:
        sizes = dict(p=P, q=P, a=P, e=P, t=T, h=rows // P**2, w=columns // P**2)
    return rearrange(x, f"{right} -> {left}", **sizes)


def switch_sub_sequences(x, P, T, rows, columns):
    """Token to group pattern, and group to token: the map is the same both ways."""
    return rearrange(
        x,
        "(p2 q2 b) (t h p1 w q1) c -> (p1 q1 b) (t h p2 w q2) c",
        p1=P, p2=P, q1=P, q2=P, t=T, h=rows // P**2, w=columns // P**2,
    )  # fmt: skip


def real_token_order(grid, pattern, P):
    """Row-major indices of the real tokens, sub-sequence after sub-sequence, and the P²+1 offsets."""
    index = torch.arange(grid[0] * grid[1] * grid[2]).reshape(1, -1)
    subs = to_sub_sequences(pad_grid(index, grid, P, value=-1).unsqueeze(-1), pattern, P)[..., 0]
    parts = [sub[sub >= 0] for sub in subs]
    lengths = torch.tensor([0] + [len(part) for part in parts])
    return torch.cat(parts), lengths.cumsum(0)


def linear(weights, name, x):
    return F.linear(x, weights[f"{name}.weight"].to(x.dtype), weights[f"{name}.bias"].to(x.dtype))


def rms_norm(x, weight, eps):
    y = x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps)
    return y.to(x.dtype) * weight.to(x.dtype)


def layer_norm(x, eps):
    y = x.float()
    y = (y - y.mean(-1, keepdim=True)) / (y.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
    return y.to(x.dtype)


def angles_of_grid(grid, head_dim, mistake):
    """[T·H·W, head_dim/2] float64"""
    side = 2 * (head_dim // 6)
    dims = (head_dim - 2 * side, side, side)
    axes = []
    for length, dim in zip(grid, dims):
        frequencies = 10000.0 ** -(torch.arange(0, dim, 2, dtype=torch.float64) / max(dim, 1))
        axes.append(torch.arange(length, dtype=torch.float64)[:, None] * frequencies)
    T, H, W = grid
    t = repeat(axes[0], "t d -> (t h w) d", h=H, w=W)
    rows = repeat(axes[1], "h d -> (t h w) d", t=T, w=W)
    columns = repeat(axes[2], "w d -> (t h w) d", t=T, h=H)
    if mistake == "row and column axes":
        return torch.cat([t, columns, rows], 1)
    if mistake == "axis order":
        return torch.cat([rows, columns, t], 1)
    return torch.cat([t, rows, columns], 1)


def rotate(x, angles):
    """x [b, l, heads, D], angles [b, l, D/2]"""
    cos, sin = angles.cos().float()[:, :, None], angles.sin().float()[:, :, None]
    even, odd = x.float()[..., 0::2], x.float()[..., 1::2]
    out = torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)
    return out.to(x.dtype)


def attend(q, k, v, key_mask):
    """[b, l, heads, D]; keys where the mask is False do not exist; attention over nothing is zero."""
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * q.shape[-1] ** -0.5
    if key_mask is not None:
        scores = scores.masked_fill(~key_mask[:, None, None], float("-inf"))
    shares = scores.float().softmax(-1).nan_to_num(0.0).to(v.dtype)
    out = torch.einsum("bhqk,bkhd->bqhd", shares, v)
    if key_mask is not None:
        out = out * key_mask[:, :, None, None]
    return out.flatten(2)


def queries_and_keys(weights, name, x, context, heads, eps, angles, mistake):
    out = []
    for letter, source in (("q", x), ("k", context)):
        y, weight = linear(weights, f"{name}.{letter}", source), weights[f"{name}.norm_{letter}.weight"]
        if mistake == "norm after head split":
            y = rms_norm(y.unflatten(2, (heads, -1)), weight.unflatten(0, (heads, -1)), eps).flatten(2)
        elif mistake != "norm after rotation":
            y = rms_norm(y, weight, eps)
        y = y.unflatten(2, (heads, -1))
        if angles is not None:
            y = rotate(y, angles)
        if mistake == "norm after rotation":
            y = rms_norm(y.flatten(2), weight, eps).unflatten(2, (heads, -1))
        out.append(y)
    return out


def block(weights, i, config, x, e0, text, angles, mask, mistake):
    heads, eps = config["num_heads"], 1e-5 if mistake == "eps" else config["eps"]
    name = f"blocks.{i}"
    shift1, scale1, gate1, shift2, scale2, gate2 = (
        (weights[f"{name}.modulation"].to(e0.dtype) + e0).to(x.dtype).chunk(6, 1)
    )
    y = layer_norm(x, eps) * (1 + scale1) + shift1
    q, k = queries_and_keys(weights, f"{name}.self_attn", y, y, heads, eps, angles, mistake)
    v = linear(weights, f"{name}.self_attn.v", y).unflatten(2, (heads, -1))
    x = x + linear(weights, f"{name}.self_attn.o", attend(q, k, v, mask)) * gate1
    y = layer_norm(x, eps) * weights[f"{name}.norm3.weight"].to(x.dtype) + weights[f"{name}.norm3.bias"].to(x.dtype)
    q, k = queries_and_keys(weights, f"{name}.cross_attn", y, text, heads, eps, None, mistake)
    v = linear(weights, f"{name}.cross_attn.v", text).unflatten(2, (heads, -1))
    x = x + linear(weights, f"{name}.cross_attn.o", attend(q, k, v, None))
    y = layer_norm(x, eps) * (1 + scale2) + shift2
    y = linear(weights, f"{name}.ffn.2", F.gelu(linear(weights, f"{name}.ffn.0", y), approximate="tanh"))
    return x + y * gate2


def velocity(weights, config, latent, text, timestep, mistake=None, dtype=torch.float32):
    """latent [B, C, F, 2h, 2w], text [B, n, text_dim], timestep [B] -> [B, C, F, 2h, 2w] float32.

    `dtype` bfloat16 runs every operator on bfloat16 tensors, in the plainest way.
    """
    B, P = latent.shape[0], config["sparse_ratio"]
    T, H, W = grid = (latent.shape[2], latent.shape[3] // 2, latent.shape[4] // 2)
    patch = weights["patch_embedding.weight"].to(dtype)
    x = F.conv3d(latent.to(dtype), patch, weights["patch_embedding.bias"].to(dtype), stride=(1, 2, 2))
    x = rearrange(x, "b c t h w -> b (t h w) c")

    half = config["freq_dim"] // 2
    arguments = timestep.double()[:, None] * 10000.0 ** -(torch.arange(half).double() / half)
    sinusoid = torch.cat([arguments.cos(), arguments.sin()], 1).to(dtype)
    e = linear(weights, "time_embedding.2", F.silu(linear(weights, "time_embedding.0", sinusoid)))
    e0 = linear(weights, "time_projection.1", F.silu(e)).unflatten(1, (6, -1))
    text = linear(weights, "text_embedding.0", text.to(dtype))
    text = linear(weights, "text_embedding.2", F.gelu(text, approximate="tanh"))

    angles = angles_of_grid(grid, config["dim"] // config["num_heads"], mistake)
    rows, columns = padded_side(H, P), padded_side(W, P)
    padded_angles = pad_grid(angles[None], grid, P)
    real = pad_grid(torch.ones(B, T * H * W, 1), grid, P)
    many_text = repeat(text, "b n c -> (p b) n c", p=P * P)
    many_e0 = repeat(e0, "b n c -> (p b) n c", p=P * P)

    current = "full"
    for i in range(config["num_layers"]):
        pattern = pattern_of_block(i, config)
        if mistake == "pattern order" and pattern != "full":
            pattern = {"token": "group", "group": "token"}[pattern]
        if pattern != current:
            if current == "full":
                x = to_sub_sequences(pad_grid(x, grid, P), pattern, P)
            elif pattern == "full":
                x = to_grid(x, current, P, T, rows, columns)[:, :, :H, :W].flatten(1, 3)
            else:
                x = switch_sub_sequences(x, P, T, rows, columns)
            current = pattern
        if pattern == "full":
            x = block(weights, i, config, x, e0, text, angles[None].expand(B, -1, -1), None, mistake)
        else:
            turned = to_sub_sequences(padded_angles, pattern, P).repeat_interleave(B, 0)
            mask = to_sub_sequences(real, pattern, P)[..., 0] > 0
            x = block(weights, i, config, x, many_e0, many_text, turned, None if mask.all() else mask, mistake)
    if current != "full":
        x = to_grid(x, current, P, T, rows, columns)[:, :, :H, :W].flatten(1, 3)

    shift, scale = (weights["head.modulation"].to(dtype) + e[:, None]).chunk(2, 1)
    x = linear(weights, "head.head", layer_norm(x, 1e-5 if mistake == "eps" else config["eps"]) * (1 + scale) + shift)
    return rearrange(x, "b (f h w) (p q c) -> b c f (h p) (w q)", f=T, h=H, w=W, p=2, q=2).float()
