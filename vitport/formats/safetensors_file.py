"""Reads and writes safetensors files: a length, a JSON header, the tensors one after another.

Our own, because the library orders the header at random when it has metadata, ignores the umask, and scrambles arrays
that are not contiguous (safetensors issue 825). https://github.com/huggingface/safetensors#format
"""

import json
import struct
from pathlib import Path

import numpy as np

from vitport.arrays import Params
from vitport.errors import AssetError

METADATA = {"format": "pt"}
"""What transformers and timm ask for; a single key, so that the library too writes it in one order."""

WEIGHTS = "model.safetensors"
"""The file that transformers and timm look for in a folder."""

MAX_HEADER = 100_000_000
"""The format's own limit, in bytes."""

ALIGNMENT = 8


def write(path: Path, tensors: Params) -> None:
    """float32 `tensors` under sorted names; the same bytes every time."""
    header, end = {"__metadata__": METADATA}, 0
    for name in sorted(tensors):
        start, end = end, end + tensors[name].nbytes
        header[name] = {"dtype": "F32", "shape": list(tensors[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for name in sorted(tensors):
            file.write(np.asarray(tensors[name], "<f4", order="C").data.cast("B"))


def read(path: Path) -> Params:
    """The tensors as memory maps. Raises AssetError on anything the format forbids."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER, size - 8):
                raise ValueError(f"its header claims {length} bytes")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
        header.pop("__metadata__", None)
        return _map(path, header, 8 + length, size)
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise AssetError(f"{path} is not a valid safetensors file: {error}") from error


def _map(path: Path, header: dict, offset: int, size: int) -> Params:
    """One view per tensor into one map; tensors must lie without gaps, in any order."""
    data, tensors, end = np.memmap(path, np.uint8, "r", offset) if size > offset else np.empty(0, np.uint8), {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        start, stop = entry["data_offsets"]
        if entry["dtype"] != "F32" or start != end or stop - start != 4 * int(np.prod(entry["shape"], dtype=object)):
            raise ValueError(f"tensor {name} is {entry}, with {end} bytes before it")
        tensors[name], end = data[start:stop].view("<f4").reshape(entry["shape"]), stop
    if end != size - offset:
        raise ValueError(f"it holds {size - offset} bytes of tensors, its header says {end}")
    return tensors


def _unique(pairs: list[tuple[str, object]]) -> dict:
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise ValueError("a name stands twice in its header")
    return dict(pairs)


def write_config(path: Path, values: dict) -> None:
    """A JSON file for people to read."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_config(path: Path) -> dict:
    """Raises AssetError where `path` is no JSON object."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} can't be read: {error}") from error
    if not isinstance(values, dict):
        raise AssetError(f"{path} is no JSON object")
    return values
