"""Reads and writes safetensors files: a length, a JSON header, the tensors one after another.

Our own, because the library orders the header at random when it has metadata, ignores the umask, and scrambles arrays
that are not contiguous (safetensors issue 825). https://github.com/huggingface/safetensors#format
"""

import json
import math
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitport import strict_json
from vitport.arrays import Params
from vitport.errors import AssetError
from vitport.member_names import bad_name

METADATA = {"format": "pt"}
"""What transformers and timm ask for; a single key, so that the library too writes it in one order."""

WEIGHTS = "model.safetensors"
"""The file that transformers and timm look for in a folder."""

MAX_AXES, MAX_NUMBER = 32, 2**48
"""Of a shape; NumPy's own limits lie beyond."""

ALIGNMENT = 8


def write(path: Path, tensors: Params) -> None:
    """float32 `tensors` under sorted names; the same bytes every time."""
    header, end = {"__metadata__": METADATA}, 0
    for name in sorted(tensors):
        start, end = end, end + 4 * tensors[name].size
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in sorted(tensors):
            file.write(np.asarray(tensors[name], "<f4", order="C").reshape(-1).view(np.uint8))


def read(path: Path) -> Params:
    """The tensors as memory maps. Raises AssetError on anything the format forbids."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header, offset = _read_header(file, size)
        return _map(path, header, offset, size)
    except (OSError, ValueError, OverflowError, struct.error) as error:
        raise AssetError(f"{path} is not a valid safetensors file: {error}") from error


def verify(path: Path) -> Params:
    """`read`, where every value is finite too: the format allows NaN, weights do not. Raises AssetError."""
    tensors = read(path)
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise AssetError(f"{path}: tensor {_shortened(name)} holds values that are not finite")
    return tensors


def _read_header(file: BinaryIO, size: int) -> tuple[dict, int]:
    """The entries of the tensors, each checked by itself, and where their data begins."""
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(strict_json.MAX_BYTES, size - 8):  # of 100 MB that the format allows, JSON makes 2 GB
        raise ValueError(f"its header claims {length} bytes")
    text = file.read(length)
    if not text.startswith(b"{"):
        raise ValueError("its header is no JSON object")
    header = strict_json.read(text)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata is not made of texts")
    for name, entry in header.items():
        if complaint := bad_name(name):
            raise ValueError(f"the name of tensor {_shortened(name)} {complaint}")
        if not _is_entry(entry):
            raise ValueError(f"it says that tensor {_shortened(name)} is {_shortened(entry)}")
    return header, 8 + length


def _is_entry(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and entry.keys() == {"dtype", "shape", "data_offsets"}
        and entry["dtype"] == "F32"
        and _are_naturals(entry["shape"])
        and _are_naturals(entry["data_offsets"])
        and len(entry["data_offsets"]) == 2
        and math.prod(max(size, 1) for size in entry["shape"]) <= MAX_NUMBER
    )


def _are_naturals(values: object) -> bool:
    if not isinstance(values, list) or len(values) > MAX_AXES:
        return False
    return all(type(value) is int and 0 <= value <= MAX_NUMBER for value in values)


def _map(path: Path, header: dict, offset: int, size: int) -> Params:
    """One view per tensor into one map; tensors must lie without gaps, in any order."""
    data, tensors, end = np.memmap(path, np.uint8, "r", offset) if size > offset else np.empty(0, np.uint8), {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if start != end or stop - start != 4 * math.prod(entry["shape"]):
            raise ValueError(f"tensor {_shortened(name)} is {_shortened(entry)}, with {end} bytes before it")
        tensors[name], end = data[start:stop].view("<f4").reshape(entry["shape"]), stop
    if end != size - offset:
        raise ValueError(f"it holds {size - offset} bytes of tensors, its header says {end}")
    return tensors


def _shortened(value: object) -> str:
    """For a message: what a file says may be long."""
    return f"{value!r:.100}" if isinstance(value, str) else f"{value!s:.100}"


def differences(found: dict, expected: dict) -> list[str]:
    """In words: what `found` says otherwise than `expected`, or not at all."""
    return [
        f"{key} is {_shortened(found.get(key))}, not {_shortened(expected[key])}"
        for key in expected
        if found.get(key) != expected[key]
    ]


def write_config(path: Path, values: dict) -> None:
    """A JSON file for people to read."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_config(path: Path) -> dict:
    """Raises AssetError where `path` is no JSON object."""
    try:
        with path.open("rb") as file:
            values = strict_json.read(file.read(strict_json.MAX_BYTES + 1))
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} can't be read: {error}") from error
    if not isinstance(values, dict):
        raise AssetError(f"{path} is no JSON object")
    return values
