"""Padded Skiparse-2D around the blocks of diffusers' WanTransformer3DModel.

The benchmark times our sparse model against this one. The scheme is the published one of OSP-Next.
The grid of tokens is padded at the bottom and on the right to multiples of P². Its P² sub-sequences
become batch entries; text and modulation are repeated for them. Tokens keep the rotations of their
positions in the video. Padding is hidden from self-attention in one of OSP-Next's two ways: a mask
over keys, or removal for the call. If the grid needs no padding, both are the same. Blocks and
weights are those of diffusers. `skiparse_peer_check.py` compares the whole model with fixtures.

Letters in shapes: b batch, L all tokens, l tokens of a sub-sequence, c channels, P sparse ratio, T
frames.
"""

import copy

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_wan import WanAttnProcessor

PADDINGS = ("masked", "removed")


class Grid:
    """A grid of tokens, T x rows x columns, padded so that P² divides rows and columns."""

    def __init__(self, frames: int, rows: int, columns: int, P: int):
        self.real, self.P = (frames, rows, columns), P
        self.padded = (frames, rows + -rows % P**2, columns + -columns % P**2)

    def pad(self, x, value=0.0):
        """[b, T·rows·columns, c] -> [b, T, padded rows, padded columns, c]"""
        below, right = self.padded[1] - self.real[1], self.padded[2] - self.real[2]
        return F.pad(x.unflatten(1, self.real), (0, 0, 0, right, 0, below), value=value)

    def split(self, x, pattern: str):
        """[b, T, padded rows, padded columns, c] -> [P²·b, l, c], the two phases outermost."""
        T, rows, columns, P = *self.padded, self.P
        if pattern == "token":
            x = x.reshape(-1, T, rows // P, P, columns // P, P, x.shape[-1])
            return x.permute(3, 5, 0, 1, 2, 4, 6).flatten(0, 2).flatten(1, 3)
        x = x.reshape(-1, T, rows // P**2, P, P, columns // P**2, P, P, x.shape[-1])
        return x.permute(3, 6, 0, 1, 2, 4, 5, 7, 8).flatten(0, 2).flatten(1, 5)

    def enter(self, x):
        """All tokens [b, L, c] -> token pattern [P²·b, l, c]."""
        return self.split(self.pad(x), "token")

    def switch(self, x):
        """Token pattern -> group pattern, or the inverse, which is the same map. [P²·b, l, c]"""
        T, rows, columns, P = *self.padded, self.P
        x = x.reshape(P, P, -1, T, rows // P**2, P, columns // P**2, P, x.shape[-1])
        return x.permute(5, 7, 2, 3, 4, 0, 6, 1, 8).flatten(0, 2).flatten(1, 5)

    def leave(self, x):
        """Group pattern [P²·b, l, c] -> all tokens [b, L, c], without padding."""
        T, rows, columns, P = *self.padded, self.P
        x = x.reshape(P, P, -1, T, rows // P**2, P, columns // P**2, P, x.shape[-1])
        x = x.permute(2, 3, 4, 0, 5, 6, 1, 7, 8).reshape(-1, *self.padded, x.shape[-1])
        return x[:, :, : self.real[1], : self.real[2]].flatten(1, 3)


class MaskedAttention(WanAttnProcessor):
    """Self-attention only to the keys where `real` [b, l] is true."""

    def __init__(self, real):
        super().__init__()
        self.real = real

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        return super().__call__(attn, hidden_states, None, self.real, rotary_emb)


class RemovedAttention(WanAttnProcessor):
    """Self-attention with its projections, of real tokens only.

    There is one call for all sub-sequences of the same length. Padding gets the output of some real
    token, which is never read.
    """

    def __init__(self, real):
        super().__init__()
        lengths, places = real.sum(1), torch.arange(real.numel(), device=real.device).view_as(real)
        self.parts = [places[lengths == n][real[lengths == n]].view(-1, n) for n in lengths.unique().tolist() if n > 0]
        order = torch.cat([part.flatten() for part in self.parts])
        self.back = torch.zeros_like(places).flatten()
        self.back[order] = torch.arange(len(order), device=real.device)

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        def tokens(x, part):  # [b, l, ...] -> the k sub-sequences of length n, [k, n, ...]
            return x.flatten(0, 1)[part]

        outputs = [
            super(RemovedAttention, self)
            .__call__(attn, tokens(hidden_states, part), rotary_emb=[tokens(table, part) for table in rotary_emb])
            .flatten(0, 1)
            for part in self.parts
        ]
        return torch.cat(outputs)[self.back].view_as(hidden_states)


class SparseBlock(torch.nn.Module):
    """A block on P² times the batch entries, with the rotations of its pattern."""

    def __init__(self, block, processor, rotary, P: int):
        super().__init__()
        self.block, self.rotary, self.P = block, rotary, P
        if processor is not None:
            block.attn1.set_processor(processor)

    def forward(self, x, text, time, _):
        return self.block(x, text.repeat(self.P**2, 1, 1), time.repeat(self.P**2, 1, 1), self.rotary)


class Rearrange(torch.nn.Module):
    """A layer between blocks that moves tokens."""

    def __init__(self, way):
        super().__init__()
        self.way = way

    def forward(self, x, *_):
        return self.way(x)


def skiparse_peer(model, latent, P: int, num_full_blocks: int, padding: str):
    """A sparse model for latents of this shape. It shares all parameters with the dense `model`.

    The first and last num_full_blocks / 2 blocks are dense. Of the other blocks, even ones have the
    token pattern and odd ones the group pattern. `padding` is one of PADDINGS.
    """
    batch, _, frames, height, width = latent.shape
    grid, rotary = Grid(frames, height // 2, width // 2, P), model.rope(latent)

    def split(table, pattern, value):  # [1, L, 1, c] -> [P²·batch, l, 1, c]
        subs = grid.split(grid.pad(table.flatten(2), value), pattern)
        return subs.repeat_interleave(batch, 0).unsqueeze(2).contiguous()

    rotations, processors = {}, {}
    for pattern in ("token", "group"):
        rotations[pattern] = (split(rotary[0], pattern, 1.0), split(rotary[1], pattern, 0.0))
        real = split(torch.ones_like(rotary[0][..., :1]), pattern, 0.0)[..., 0, 0] > 0
        way = MaskedAttention if padding == "masked" else RemovedAttention
        processors[pattern] = None if real.all() else way(real)

    peer = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    first, last = num_full_blocks // 2, len(peer.blocks) - num_full_blocks // 2
    blocks = list(peer.blocks[:first])
    for i in range(first, last):
        pattern = "group" if i % 2 else "token"
        blocks.append(Rearrange(grid.enter if i == first else grid.switch))
        blocks.append(SparseBlock(peer.blocks[i], processors[pattern], rotations[pattern], P))
    peer.blocks = torch.nn.ModuleList([*blocks, Rearrange(grid.leave), *peer.blocks[last:]])
    return peer
