"""No single change of a small npz passes: not one of its bits, not a byte too many, not one too few."""

import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from fuzz import seeds
from fuzz.bits import flipped
from fuzz.seeds import ROOT, SMALL
from fuzz.targets import MEMORY, same
from vitport import npz

STORED, DEFLATED = seeds.npz()


def large(folder: Path) -> bytes:
    """As our writer and NumPy's write an archive beyond two gigabytes, but for its size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npz, "LIMIT", 60)
        npz.write(folder / "large.npz", SMALL.items())
    return (folder / "large.npz").read_bytes()


def as_python_3_8(folder: Path) -> bytes:
    """What zipfile wrote until Python 3.10, and so the published files: sizes in both places, version 2.0."""
    data = STORED.replace(b"PK\3\4\x2d", b"PK\3\4\x14").replace(b"PK\1\2\x2d\3\x2d", b"PK\1\2\x14\3\x14")
    at = 0
    while (at := data.find(b"PK\3\4", at)) >= 0:
        extra = at + 30 + int.from_bytes(data[at + 26 : at + 28], "little")
        sizes = data[extra + 12 : extra + 16] + data[extra + 4 : extra + 8]
        data = data[: at + 18] + sizes + data[at + 26 :]
        at += 4
    return data


FILES = {
    "stored": lambda folder: STORED,
    "deflated": lambda folder: DEFLATED,
    "beyond two gigabytes": large,
    "by Python 3.8": as_python_3_8,
}


@pytest.mark.parametrize("kind", FILES)
def test_every_change_is_refused(tmp_path: Path, kind: str) -> None:
    original = tmp_path / "original.npz"
    original.write_bytes(FILES[kind](tmp_path))
    npz.verify(original)
    same(npz.read(original), SMALL)
    found = accepted(original)
    if kind == "deflated":
        ends = found.pop("flipped")
        assert len(ends) <= 7 * len(SMALL), "bits that fill up the last byte of each stream, and belong to nothing"
        for place, data in flipped(DEFLATED):
            if place in ends:
                harmless(tmp_path / "x.npz", data)
    assert not any(found.values()), found


def accepted(original: Path) -> dict[str, list[int]]:
    """By kind of change, the places where it passed."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with tempfile.NamedTemporaryFile(dir=MEMORY) as scratch:
        command = [sys.executable, "-m", "fuzz.bits", scratch.name, str(original)]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def harmless(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        npz.verify(path)
    except Exception:
        return
    same(npz.read(path), SMALL)


def test_numpy_reads_files_with_flipped_bits() -> None:
    """Why zipfile does not read our archives: it compares the data with its CRC, and little else with anything."""
    assert sum(numpy_reads(data) for _, data in flipped(STORED)) > 500


def numpy_reads(data: bytes) -> bool:
    try:
        with np.load(io.BytesIO(data)) as file:
            same({name: file[name] for name in file.files}, SMALL)
    except Exception:
        return False
    return True
