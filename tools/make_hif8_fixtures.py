"""Makes tests/fixtures/hif8/codec.safetensors: run from the repository root, no arguments, standard library only.

HiFloat8 from its definition (arXiv 2409.16626), by the reading of bits from left to right and a search among
all values in exact rational numbers:
values              float64 [256], of every code; 6F and EF are infinite, 80 is NaN
bf16, fp16          uint8 [32768], the code of every bit pattern without sign
edges               float32 [N], where implementations differ: borders, ties, neighbours of both
edges.to_infinity, edges.saturating   uint8 [N]
e4m3_4, e4m3_1      uint8 [256], the E4M3 code nearest to value * 2^4 and * 2^1 (ties to even, at most 448)
"""

import json
import math
import struct
from bisect import bisect_right
from fractions import Fraction
from pathlib import Path

FILE = Path("tests/fixtures/hif8/codec.safetensors")
DOTS = [("11", 4), ("10", 3), ("01", 2), ("001", 1), ("0001", 0)]  # prefix, exponent bits


def value(code: int) -> Fraction | float:
    text = f"{code:08b}"
    sign, rest = (-1 if text[0] == "1" else 1), text[1:]
    if text == "10000000":
        return math.nan
    if rest == "1101111":
        return sign * math.inf
    if rest.startswith("0000"):
        power = int(rest[4:], 2)
        return Fraction(0) if power == 0 else sign * Fraction(2) ** (power - 23)
    dot, width = next(entry for entry in DOTS if rest.startswith(entry[0]))
    field, mantissa = rest[len(dot) : len(dot) + width], rest[len(dot) + width :]
    exponent = 0
    if width:
        exponent = int("1" + field[1:], 2) * (-1 if field[0] == "1" else 1)
    return sign * Fraction(2) ** exponent * (1 + Fraction(int(mantissa, 2), 2 ** len(mantissa)))


def positive_values() -> list[tuple[Fraction, int]]:
    """Sorted, with zero, and with the place of infinity as the number it would be."""
    finite = [(value(code), code) for code in range(128) if code != 0x6F]
    return sorted(finite + [(Fraction(3, 2) * 2**15, 0x6F)])


TABLE = positive_values()
MAGNITUDES = [entry[0] for entry in TABLE]


def encode(x: float, saturating: bool) -> int:
    if math.isnan(x):
        return 0x00 if saturating else 0x80
    sign = 0x80 if math.copysign(1, x) < 0 else 0
    if math.isinf(x):
        code = 0x6F
    else:
        exact = Fraction(abs(x))
        below = bisect_right(MAGNITUDES, exact) - 1
        code = TABLE[below][1]
        if below + 1 < len(TABLE):
            middle = (MAGNITUDES[below] + MAGNITUDES[below + 1]) / 2
            code = TABLE[below + (exact >= middle)][1]
    if code == 0x6F and saturating:
        code = 0x6E
    return code if code == 0 else sign | code


def float_of_bits(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def bits_of_float(x: float) -> int:
    return struct.unpack("<I", struct.pack("<f", x))[0]


def edges() -> list[int]:
    """Bit patterns of float32."""
    exact = []
    for below, above in zip(MAGNITUDES, MAGNITUDES[1:]):
        exact += [above, (below + above) / 2]
    exact += [Fraction(2) ** -24, Fraction(2) ** -126, Fraction(2) ** 16, Fraction(2) ** 100]
    patterns = []
    for number in exact:
        bits = bits_of_float(float(number))
        assert Fraction(float_of_bits(bits)) == number
        patterns += [bits - 1, bits, bits + 1]
    patterns += [0x00000000, 0x00000001, 0x007FFFFF, 0x7F7FFFFF, 0x7F800000]
    patterns += [0x7F800001, 0x7FBFFFFF, 0x7FC00000, 0x7FFFFFFF]
    patterns += [bits_of_float(40959.996), bits_of_float(15.5), bits_of_float(1.9375)]
    return sorted(set(patterns)) + [bits | 0x80000000 for bits in sorted(set(patterns))]


def e4m3_values() -> list[Fraction]:
    """Of the codes 00 to 7E."""
    values = []
    for code in range(0x7F):
        exponent, mantissa = code >> 3, code & 7
        scale = Fraction(2) ** (max(exponent, 1) - 7)
        values.append(scale * ((exponent > 0) + Fraction(mantissa, 8)))
    return values


def e4m3(code: int, shift: int) -> int:
    number = value(code)
    if isinstance(number, float) and math.isnan(number):
        return 0x7F
    sign = 0x80 if number < 0 else 0
    if isinstance(number, float):
        return sign | 0x7E
    wanted, values = abs(number) * 2**shift, e4m3_values()
    best = min(range(0x7F), key=lambda i: (abs(values[i] - wanted), i % 2))
    return 0 if number == 0 else sign | best


def write_safetensors(file: Path, tensors: dict[str, tuple[str, int, bytes]]) -> None:
    header, offset = {}, 0
    for name, (dtype, count, data) in sorted(tensors.items()):
        header[name] = {"dtype": dtype, "shape": [count], "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(data for _, (_, _, data) in sorted(tensors.items()))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(struct.pack("<Q", len(text)) + text + body)


def main() -> None:
    numbers = [float(value(code)) for code in range(256)]
    patterns = edges()
    tensors = {
        "values": ("F64", 256, struct.pack("<256d", *numbers)),
        "edges": ("F32", len(patterns), struct.pack(f"<{len(patterns)}I", *patterns)),
    }
    inputs = {
        "bf16": [float_of_bits(bits << 16) for bits in range(32768)],
        "fp16": [struct.unpack("<e", struct.pack("<H", bits))[0] for bits in range(32768)],
        "edges.to_infinity": [float_of_bits(bits) for bits in patterns],
        "edges.saturating": [float_of_bits(bits) for bits in patterns],
    }
    for name, floats in inputs.items():
        codes = bytes(encode(x, name.endswith("saturating")) for x in floats)
        tensors[name] = ("U8", len(codes), codes)
    for shift in (4, 1):
        tensors[f"e4m3_{shift}"] = ("U8", 256, bytes(e4m3(code, shift) for code in range(256)))
    write_safetensors(FILE, tensors)
    print(f"{FILE}: {FILE.stat().st_size} bytes, {len(patterns)} edges")


if __name__ == "__main__":
    main()
