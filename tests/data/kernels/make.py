#!/usr/bin/env python3
"""Makes the data of the types that were added after the K types, with ggml's own C code.

    make.py LIBRARIES

LIBRARIES is a folder with libggml-base.so and libggml-cpu-x64.so, as in the npm package
@node-llama-cpp/linux-x64; needs the Python packages gguf and numpy. The weights are those of the
older files.
"""

import ctypes
import json
import pathlib
import sys

import gguf
import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
GRIDS = HERE.parents[2] / "guest/src/kernels/grids"
ROWS, COLS = 2, 1024
# Each type's activations in integer products, and where a block has a 16-bit float.
TYPES = {
    "IQ4_NL": ("q8_0", 0),
    "IQ4_XS": ("q8_K", 0),
    "MXFP4": ("q8_0", None),
    "TQ1_0": ("q8_K", 52),
    "TQ2_0": ("q8_K", 64),
    "IQ3_S": ("q8_K", 0),
    "IQ3_XXS": ("q8_K", 0),
    "IQ2_S": ("q8_K", 0),
    "IQ2_XS": ("q8_K", 0),
    "IQ2_XXS": ("q8_K", 0),
    "IQ1_S": ("q8_K", 0),
    "IQ1_M": ("q8_K", None),
}


def main():
    folder = pathlib.Path(sys.argv[1])
    base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
    cpu = ctypes.CDLL(str(folder / "libggml-cpu-x64.so"))
    cpu.ggml_cpu_init()
    random = np.random.default_rng(7)
    weights = (random.standard_normal((4, COLS)) * 0.05).astype(np.float32)[:ROWS].copy()
    weights[0, :32], weights[1, 5] = 0, 1.5
    x = np.fromfile(HERE / "activations.f32", np.float32)
    exact, integer, every = {}, {}, {}
    for name, (activations, _) in TYPES.items():
        stored = quantize(base, name, weights)
        expanded = expand(base, name, stored)
        stored.tofile(HERE / name)
        expanded.tofile(HERE / f"{name}.f32")
        rows = expanded.reshape(ROWS, COLS).astype(np.float64)
        exact[name] = (rows @ x.astype(np.float64)).tolist()
        y = np.fromfile(HERE.parent / "integers" / f"acts.{activations}", np.uint8)
        integer[name] = [dot(cpu, name, activations, row, y) for row in stored]
        blocks = all_numbers(name)
        blocks.tofile(HERE / f"{name}.every")
        every[name] = f"{fnv1a(expand(base, name, blocks).tobytes()):016x}"
    add(HERE / "products.json", exact)
    add(HERE.parent / "integers" / "products.json", integer)
    add(HERE / "every.json", every)
    for name in ("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S"):
        make_table(name)


def make_table(name):
    """A bit for each possible entry, counted by its values as digits, the first one lowest."""
    kind = getattr(gguf.quants, name)
    kind.init_grid()
    grid = kind.grid.reshape(kind.grid_shape)
    base, length = len(kind.grid_map), grid.shape[1]
    digits = np.searchsorted(np.array(kind.grid_map), grid)
    numbers = (digits * base ** np.arange(length)).sum(axis=1)
    # Then the order of entries needs no room.
    assert (np.diff(numbers) > 0).all()
    bits = np.zeros(base**length, np.uint8)
    bits[numbers] = 1
    # Both types with 2,048 entries have the same ones.
    path = GRIDS / name.lower().replace("iq1_s", "iq1")
    np.packbits(bits, bitorder="little").tofile(path)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def quantize(base, name, weights):
    kind = gguf.GGMLQuantizationType[name]
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    stored = np.zeros((ROWS, COLS // elements * size), np.uint8)
    importance = np.ones(COLS, np.float32)
    base.ggml_quantize_chunk(
        ctypes.c_int(kind.value), pointer(weights), pointer(stored), ctypes.c_int64(0),
        ctypes.c_int64(ROWS), ctypes.c_int64(COLS), pointer(importance),
    )
    return stored


def expand(base, name, stored):
    elements, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    expanded = np.zeros(stored.size // size * elements, np.float32)
    function = getattr(base, f"dequantize_row_{name.lower()}")
    function(pointer(stored), pointer(expanded), ctypes.c_int64(expanded.size))
    return expanded


def dot(cpu, name, activations, row, y):
    function = getattr(cpu, f"ggml_vec_dot_{name.lower()}_{activations}_generic")
    result, none = ctypes.c_float(), ctypes.c_size_t(0)
    function(
        ctypes.c_int(COLS), ctypes.byref(result), none, pointer(row), none, pointer(y), none,
        ctypes.c_int(1),
    )
    return result.value


def all_numbers(name):
    """Random blocks in which each entry of the type's table occurs, and each exponent."""
    counts = {"MXFP4": 256, "IQ2_XXS": 16, "IQ2_XS": 16, "IQ2_S": 32, "IQ3_XXS": 8, "IQ3_S": 16,
              "IQ1_S": 64, "IQ1_M": 64}
    count = counts.get(name, 8)
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]][1]
    random = np.random.default_rng(11)
    blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
    factors = (random.standard_normal(count) * 0.01).astype("<f2").view(np.uint8).reshape(count, 2)
    at = TYPES[name][1]
    if at is not None:
        blocks[:, at : at + 2] = factors
    index = np.arange(count * 64).reshape(count, 64)
    few = np.arange(count * 32).reshape(count, 32)
    low = lambda numbers: (numbers & 255).astype(np.uint8)
    # Bits of `numbers` above the lowest eight, `per` numbers in a byte.
    def high(numbers, bits, per):
        upper = (numbers >> 8) & ((1 << bits) - 1)
        upper = upper.reshape(count, -1, per) << (np.arange(per) * (8 // per))
        return upper.sum(axis=2).astype(np.uint8)

    if name == "MXFP4":
        blocks[:, 0] = np.arange(256)
    elif name == "IQ2_XXS":
        for part in range(8):
            blocks[:, 2 + 8 * part : 6 + 8 * part] = low(few[:, 4 * part : 4 * part + 4])
    elif name == "IQ2_XS":
        blocks[:, 2:66:2] = low(few)
        blocks[:, 3:67:2] = blocks[:, 3:67:2] & 254 | (few >> 8 & 1).astype(np.uint8)
    elif name == "IQ2_S":
        blocks[:, 2:34], blocks[:, 66:74] = low(few), high(few, 2, 4)
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = low(index)
    elif name == "IQ3_S":
        blocks[:, 2:66], blocks[:, 66:74] = low(index), high(index, 1, 8)
    elif name == "IQ1_S":
        blocks[:, 2:34] = low(few)
        upper = ((few >> 8 & 7).reshape(count, 8, 4) << (np.arange(4) * 3)).sum(axis=2)
        rest = random.integers(0, 16, (count, 8)) << 12
        blocks[:, 34:50] = (upper | rest).astype("<u2").view(np.uint8)
    elif name == "IQ1_M":
        rest = random.integers(0, 256, (count, 16), dtype=np.uint8) & 0x88
        blocks[:, :32], blocks[:, 32:48] = low(few), high(few, 3, 2) | rest
        bits = factors.copy().view("<u2").reshape(count)
        for part in range(4):
            upper = ((bits >> (4 * part) & 15) << 4).astype(np.uint8)
            blocks[:, 49 + 2 * part] = blocks[:, 49 + 2 * part] & 15 | upper
    return blocks


def fnv1a(data):
    result = 0xCBF29CE484222325
    for byte in data:
        result = (result ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return result


def add(path, entries):
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **entries}, indent=1) + "\n")


if __name__ == "__main__":
    main()
