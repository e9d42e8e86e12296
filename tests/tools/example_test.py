"""Installs ospnext, builds examples/ against it from outside, and makes two videos with two LoRAs.

usage: example_test.py BUILD SOURCE
"""

import json
import random
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

LINEAR = "diffusion_model.blocks.0.self_attn.q"


def write_lora(file: Path, width: int, seed: int) -> None:
    """A LoRA of rank 2 for one linear [width, width]."""
    draw = random.Random(seed)
    header, data = {}, b""
    for name, shape in (("lora_down", [2, width]), ("lora_up", [width, 2])):
        values = struct.pack(f"<{2 * width}f", *(draw.gauss(0, 0.3) for _ in range(2 * width)))
        header[f"{LINEAR}.{name}.weight"] = {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [len(data), len(data) + len(values)],
        }
        data += values
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def run(*command, **options) -> None:
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], check=True, **options)


def main(build: Path, source: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("cmake", "--install", build, "--prefix", folder / "prefix", stdout=subprocess.DEVNULL)
        run(folder / "prefix/bin/ospnext", "--version")
        run("cmake", "-S", source / "examples", "-B", folder / "build",
            f"-DCMAKE_PREFIX_PATH={folder / 'prefix'}", stdout=subprocess.DEVNULL)
        run("cmake", "--build", folder / "build")
        model = source / "models/tiny"
        width = json.loads((model / "transformer/config.json").read_text())["dim"]
        for seed in (1, 2):
            write_lora(folder / f"{seed}.safetensors", width, seed)
        run(folder / "build/two_loras", model, "a red ball", folder / "1.safetensors",
            folder / "2.safetensors", cwd=folder)
        videos = [(folder / f"video-{number}.y4m").read_bytes() for number in (1, 2)]
        assert len(videos[0]) == len(videos[1]) > 100_000, [len(video) for video in videos]
        assert videos[0] != videos[1], "both LoRAs made the same video"
        print("two videos of", len(videos[0]), "bytes")


main(Path(sys.argv[1]), Path(sys.argv[2]))
