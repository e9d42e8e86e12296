"""Makes tests/fixtures/video/: what PIL and torch make of images and of a GIF.

Run from the repository root, no arguments, the same files each time:

fit.safetensors   image_CASE [H, W, 3] uint8; pil_CASE_HxW and torch_CASE_HxW [h, w, 3] uint8, scaled
                  to cover h x w and cut as OSP-Next does: PIL's bicubic Image.resize of the
                  columns and then of the rows, and torch's
                  interpolate(bicubic, antialias) of uint8
NAME.png          images of other kinds than 8-bit RGB, and png.safetensors with them as PIL opens
                  them: NAME [H, W, 3] uint8, black behind what is transparent
clip.gif          frames shown for 60, 20, 130, 60 and 60 ms, some of them part of the frame; in
                  gif.safetensors PIL's frames [5, H, W, 3] uint8
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageSequence
from safetensors.torch import save_file

FOLDER = Path("tests/fixtures/video")
SIZES = {"wide": [(16, 16), (24, 32), (40, 24), (48, 80)], "tall": [(16, 16), (33, 20)], "odd": [(13, 9)]}
IMAGES = {"wide": (37, 61), "tall": (50, 23), "odd": (13, 9)}
GIF_MILLISECONDS = [60, 20, 130, 60, 60]


def picture(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth colours with sharp edges and some noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    planes = [128 + 120 * np.sin(columns * 0.3), 128 + 120 * np.cos(rows * 0.2), 255.0 * (rows > columns)]
    return np.clip(np.stack(planes, -1) + random.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)


def covering(shape: tuple, height: int, width: int) -> tuple:
    """OSP-Next's size before the cut: one side as asked, the other rounded up."""
    rows, columns = shape[:2]
    if height / rows >= width / columns:
        return height, math.ceil(columns * height / rows)
    return math.ceil(rows * width / columns), width


def cut(image: np.ndarray, height: int, width: int) -> torch.Tensor:
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return torch.from_numpy(image[top:top + height, left:left + width].copy())


def make_fit():
    tensors = {}
    for seed, (case, shape) in enumerate(IMAGES.items()):
        image = picture(*shape, seed)
        tensors[f"image_{case}"] = torch.from_numpy(image)
        for height, width in SIZES[case]:
            rows, columns = covering(image.shape, height, width)
            # in two steps, since newer releases choose which side they scale first
            narrow = Image.fromarray(image).resize((columns, image.shape[0]), Image.Resampling.BICUBIC)
            pil = np.asarray(narrow.resize((columns, rows), Image.Resampling.BICUBIC))
            planes = torch.from_numpy(image).permute(2, 0, 1)[None]
            scaled = torch.nn.functional.interpolate(planes, (rows, columns), mode="bicubic", antialias=True)
            ours = scaled[0].permute(1, 2, 0).numpy()
            tensors[f"pil_{case}_{height}x{width}"] = cut(pil, height, width)
            tensors[f"torch_{case}_{height}x{width}"] = cut(ours, height, width)
    save_file(tensors, FOLDER / "fit.safetensors")


def make_png():
    image = Image.fromarray(picture(11, 14, 7))
    clear = image.copy().convert("RGBA")
    clear.putalpha(Image.fromarray(np.where(np.mgrid[0:11, 0:14][1] < 5, 0, 255).astype(np.uint8)))
    kinds = {"grey": image.convert("L"), "palette": image.quantize(32), "bits": image.convert("1"),
             "clear": clear}
    tensors = {}
    for name, one in kinds.items():
        one.save(FOLDER / f"{name}.png")
        opened = Image.open(FOLDER / f"{name}.png").convert("RGBA")
        black = Image.alpha_composite(Image.new("RGBA", opened.size, (0, 0, 0, 255)), opened)
        tensors[name] = torch.from_numpy(np.asarray(black.convert("RGB")).copy())
    save_file(tensors, FOLDER / "png.safetensors")


def make_gif():
    frames = []
    for i in range(len(GIF_MILLISECONDS)):
        frame = np.full((20, 26, 3), (30, 60, 90), np.uint8)
        frame[2 + 3 * i:6 + 3 * i, 4:12] = (250, 200 - 40 * i, 20 * i)
        frames.append(Image.fromarray(frame))
    frames[0].save(FOLDER / "clip.gif", save_all=True, append_images=frames[1:], duration=GIF_MILLISECONDS)
    opened = Image.open(FOLDER / "clip.gif")
    shown = [np.asarray(frame.convert("RGB")).copy() for frame in ImageSequence.Iterator(opened)]
    save_file({"frames": torch.from_numpy(np.stack(shown))}, FOLDER / "gif.safetensors")


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_fit()
    make_png()
    make_gif()


if __name__ == "__main__":
    main()
