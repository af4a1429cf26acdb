"""29 safetensors files, by the rules of its README: our verdict on each, and that of the library.

What the library accepts and we refuse is why the reader is our own.
"""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors

from vitport.errors import AssetError
from vitport.formats import safetensors_file

X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
Y = {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]}
TEXT = json.dumps({"x": X}).encode()


def file_of(header: object, data: bytes = bytes(8), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


REJECTED_BY_BOTH = {
    "an empty file": b"",
    "shorter than its length": b"\x08\0\0",
    "header too large for the file": file_of({"x": X}, length=1000),
    "header too large for the format": file_of({"x": X}, length=100_000_001),
    "header too small": file_of({"x": X}, length=1),
    "length of 2^64 - 1": file_of({"x": X}, length=2**64 - 1),
    "header of no bytes": file_of(b""),
    "not UTF-8": file_of(b'{"\xff":1}'),
    "not JSON": file_of(b"{x}"),
    "a list": file_of(b"[]", b""),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}, "x": X}),
    "unknown dtype": file_of({"x": {**X, "dtype": "F33"}}),
    "missing shape": file_of({"x": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "negative shape": file_of({"x": {**X, "shape": [-2]}}),
    "shape that overflows": file_of({"x": {**X, "shape": [2**40, 2**40]}}),
    "shape and offsets differ": file_of({"x": {**X, "shape": [3]}}),
    "offsets past the end": file_of({"x": {**X, "shape": [4], "data_offsets": [0, 16]}}),
    "overlapping offsets": file_of({"x": X, "y": {**X, "data_offsets": [4, 12]}}, bytes(12)),
    "a hole": file_of({"x": X, "y": {**Y, "data_offsets": [12, 20]}}, bytes(20)),
    "trailing bytes": file_of({"x": X}, bytes(9)),
}
ACCEPTED_BY_THE_LIBRARY = {
    "leading space": file_of(b" " + TEXT),
    "duplicate keys": file_of(TEXT[:-1] + b', "x": ' + json.dumps(X).encode() + b"}"),
    "a name that leaves the folder": file_of({"../../etc/x": X}),
    "an empty name": file_of({"": X}),
    "NUL in a name": file_of({"x\0y": X}),
    "unknown field": file_of({"x": {**X, "code": "import os"}}),
    "NaN": file_of({"x": X}, np.float32([1, np.nan]).tobytes()),
    "huge beside zero": file_of({"x": {**X, "shape": [0, 2**62], "data_offsets": [0, 0]}}, b""),
}
VALID = file_of({"__metadata__": {"format": "pt"}, "x": X, "y": Y}, bytes(16))


def test_there_are_29_safetensors_cases() -> None:
    assert len(REJECTED_BY_BOTH) + len(ACCEPTED_BY_THE_LIBRARY) + 1 == 29


def ours(path: Path, data: bytes) -> bool:
    path.write_bytes(data)
    try:
        safetensors_file.verify(path)
    except AssetError:
        return False
    return True


def the_librarys(data: bytes) -> bool:
    """Whether safetensors opens a file; what NumPy then makes of the shapes is not its verdict."""
    try:
        safetensors.deserialize(data)
    except Exception:
        return False
    return True


def test_a_valid_safetensors_file_is_accepted(tmp_path: Path) -> None:
    assert ours(tmp_path / "x", VALID)
    assert the_librarys(VALID)


@pytest.mark.parametrize("kind", REJECTED_BY_BOTH)
def test_a_safetensors_file_that_both_reject(tmp_path: Path, kind: str) -> None:
    assert not ours(tmp_path / "x", REJECTED_BY_BOTH[kind])
    assert not the_librarys(REJECTED_BY_BOTH[kind])


@pytest.mark.parametrize("kind", ACCEPTED_BY_THE_LIBRARY)
def test_a_safetensors_file_that_only_the_library_accepts(tmp_path: Path, kind: str) -> None:
    assert the_librarys(ACCEPTED_BY_THE_LIBRARY[kind])
    assert not ours(tmp_path / "x", ACCEPTED_BY_THE_LIBRARY[kind])


def test_the_library_loads_flipped_weights_without_a_word(tmp_path: Path) -> None:
    """No reader can tell: only the hash in `artifacts.json` does."""
    flipped = VALID[:-1] + b"\x40"
    assert the_librarys(flipped)
    assert ours(tmp_path / "x", flipped)
