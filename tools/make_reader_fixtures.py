"""Writes tests/fixtures/readers/: files of torch.save and of safetensors, and lists of tensor names.

Needs torch, safetensors, diffusers and transformers; run from the repository root. Every torch file
has beside it, in expected.safetensors, the tensors that reading it must give, under its own prefix.
"""

import collections
import json
import pathlib
import zipfile

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from safetensors.torch import save_file
from transformers import UMT5Config, UMT5EncoderModel

FOLDER = pathlib.Path("tests/fixtures/readers")
TYPES = [
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32",
    "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
]


def every_type():
    numbers = torch.randn(2, 3) * 3
    tensors = {}
    for name in TYPES:
        dtype = getattr(torch, name)
        source = numbers if dtype.is_floating_point else numbers.abs()
        tensors[name] = source.to(dtype)
    tensors["empty"] = torch.zeros(0, 4)
    tensors["scalar"] = torch.tensor(1.25)
    return tensors


def odd_layouts():
    base = torch.randn(4, 6)
    return {
        "base": base,
        "transposed": base.t(),
        "columns": base[:, 1:4],
        "every_other": base[::2, ::3],
        "offset": base.flatten()[5:9],
        "channels_last": torch.randn(1, 2, 3, 4).contiguous(memory_format=torch.channels_last),
    }


def module_state():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    return module.state_dict()


def wrapped():
    state = {"layer.weight": torch.randn(2, 2), "layer.bias": torch.randn(2)}
    return {
        "model": collections.OrderedDict(("module." + k, v) for k, v in state.items()),
        "step": 17,
        "rate": 0.5,
        "flags": [True, None, "text"],
        "history": [torch.ones(2), (torch.zeros(1), 3)],
        "big": 1 << 40,
        "negative": -70000,
        "size": torch.Size([2, 3]),
        "dtype": torch.bfloat16,
        5: torch.full((1,), 5.0),
    }


def parameters():
    return {"p": torch.nn.Parameter(torch.randn(3)), "q": torch.randn(2, requires_grad=True)}


def flatten(value, name, out):
    if isinstance(value, torch.Tensor):
        out[name or "tensor"] = value.detach().clone().contiguous()
    elif isinstance(value, dict):
        for key, item in value.items():
            flatten(item, f"{name}.{key}" if name else str(key), out)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            flatten(item, f"{name}.{index}" if name else str(index), out)
    return out


def recompress(source, target, compressed):
    """Copies a zip archive; entries whose name ends with one of `compressed` are deflated."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            method = zipfile.ZIP_DEFLATED if info.filename.endswith(compressed) else zipfile.ZIP_STORED
            new.writestr(zipfile.ZipInfo(info.filename), old.read(info), compress_type=method)


def force_zip64(source, target):
    """Copies a zip archive with zip64 extra fields in the local headers of its entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            with new.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as entry:
                entry.write(old.read(info))


def names(module):
    return {name: list(value.shape) for name, value in module.state_dict().items()}


def name_lists():
    with torch.device("meta"):
        transformer = WanTransformer3DModel(
            num_attention_heads=1, attention_head_dim=12, text_dim=5, freq_dim=6, ffn_dim=7, num_layers=30)
        lists = {"transformer": names(transformer)}
        for title, options in {
            "vae": {},
            "vae_one_block": {"num_res_blocks": 1},
            "vae_three_levels": {
                "num_res_blocks": 3, "dim_mult": [1, 2, 2], "temperal_downsample": [True, False]},
        }.items():
            lists[title] = names(AutoencoderKLWan(base_dim=4, z_dim=2, **options))
        config = UMT5Config(vocab_size=11, d_model=8, d_kv=2, d_ff=6, num_heads=3, num_layers=24)
        lists["umt5"] = names(UMT5EncoderModel(config))
    return lists


def main():
    torch.manual_seed(20240)
    FOLDER.mkdir(parents=True, exist_ok=True)
    expected = {}
    nested = wrapped()
    for title, value in {
        "every_type": every_type(),
        "odd_layouts": odd_layouts(),
        "module_state": module_state(),
        "wrapped": nested,
        "parameters": parameters(),
        "bare_tensor": torch.randn(3, 2),
    }.items():
        torch.save(value, FOLDER / f"{title}.pth")
        expected.update(
            {f"{title}/{name}": tensor for name, tensor in flatten(value, "", {}).items()})
    for protocol in (3, 4, 5):
        torch.save(nested, FOLDER / f"protocol_{protocol}.pth", pickle_protocol=protocol)
    save_file(expected, FOLDER / "expected.safetensors", metadata={"format": "pt"})

    recompress(FOLDER / "parameters.pth", FOLDER / "deflated_pickle.pth", ("data.pkl",))
    recompress(FOLDER / "parameters.pth", FOLDER / "deflated_storage.pth", ("data/0",))
    force_zip64(FOLDER / "parameters.pth", FOLDER / "zip64.pth")
    torch.save(parameters(), FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"x": torch.ones(1), "path": pathlib.PurePosixPath("a")}, FOLDER / "foreign_class.pth")
    torch.save({"x": torch.zeros(1).expand(1000, 1000)}, FOLDER / "expanded.pth")
    torch.save({"x": torch.ones(2).to_sparse()}, FOLDER / "sparse.pth")
    (FOLDER / "names.json").write_text(json.dumps(name_lists(), separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
