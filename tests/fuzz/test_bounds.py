"""However a file is made, refusing it takes little time and memory: in a child that may have no more.

Among the inputs are those that took 38 seconds, or a message of 40 MB, before there was a bound; see docs/fuzzing.md.
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from fuzz import seeds
from fuzz.seeds import ROOT
from fuzz.targets import MEMORY

SECONDS, BYTES = 10, 400 * 2**20
"""Of processor time for one input, and of address space for all beyond what the imports take."""

DIGITS = b"9" * 4000


def manifest(old: bytes, new: bytes) -> bytes:
    """A valid manifest with something else in it."""
    (seed,) = (each for each in seeds.manifest() if old in each)
    return seed.replace(old, new)


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def tensor(shape: bytes) -> bytes:
    return b'{"x":{"dtype":"F32","shape":' + shape + b',"data_offsets":[0,8]}}'


def bomb() -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", bytes(2**28))
    return file.getvalue()


def npy(header: bytes, data: bytes = b"") -> bytes:
    return b"\x93NUMPY\2\0" + struct.pack("<I", len(header)) + header + data


def shaped(shape: bytes, kind: bytes = b"<f4") -> bytes:
    return npy(b"{'descr': '" + kind + b"', 'fortran_order': False, 'shape': " + shape + b"}\n", bytes(8))


HOSTILE: dict[str, Callable[[], bytes]] = {
    "manifest: a hexadecimal number of 5000 digits": lambda: manifest(b"opset: 17", b"opset: 0x" + b"f" * 5000),
    "manifest: a list of 400,000 items": lambda: manifest(b"[cat, dog]", b"[" + b"1," * 400_000 + b"]"),
    "manifest: 100,000 unknown fields": lambda: b"".join(b"a%d: \n" % index for index in range(100_000)),
    "manifest: a key of a megabyte": lambda: b"? " + b"a" * 990_000 + b"\n: 1",
    "manifest: a tag of a megabyte": lambda: b"!" * 999_999,
    "manifest: an anchor of a megabyte": lambda: b"&" + b"a" * 990_000 + b" 1",
    "manifest: 300,000 equal keys": lambda: b"{" + b"a," * 490_000 + b"}",
    "manifest: ten megabytes": lambda: b"#" * 10_000_000,
    "manifest: an alias bomb": lambda: (
        b"a: &a [1]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (c, c, c - 1, c - 1) for c in b"bcdef")
    ),
    "safetensors: nothing, 2^62 times wide": lambda: safetensors(tensor(b"[0,4611686018427387904]")),
    "safetensors: a shape of 250 long numbers": lambda: safetensors(tensor(b"[" + b",".join([DIGITS] * 250) + b"]")),
    "safetensors: 30 MB of empty lists": lambda: safetensors(b'{"a":[' + b"[]," * 10_000_000 + b"0]}"),
    "safetensors: 5000 levels": lambda: safetensors(b'{"a":' * 5000 + b"1" + b"}" * 5000),
    "config: 100,000 levels": lambda: b"[" * 100_000,
    "config: 30 MB of empty lists": lambda: b'{"a":[' + b"[]," * 10_000_000 + b"0]}",
    "npz: 256 MB in 260 kB": bomb,
    "npy: 4 TB declared": lambda: shaped(b"(1099511627776,)"),
    "npy: nothing, 2^48 times wide": lambda: shaped(b"(0, 281474976710656)", b"<U9999"),
    "npy: 60,000 signs": lambda: npy(b"-" * 60_000 + b"1"),
    "listing: 100,000 levels": lambda: b"[" * 100_000,
    "result: 100,000 levels": lambda: b"[" * 100_000,
    "name: a megabyte": lambda: b"S_16-" * 200_000,
}
"""Target and what is in the file."""

CHILD = """
import json, resource, sys, time
from pathlib import Path
from fuzz.targets import TARGETS
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[2]), resource.RLIM_INFINITY))
seconds = {}
for number, name in enumerate(json.loads(Path(sys.argv[1], "names").read_text())):
    data = Path(sys.argv[1], str(number)).read_bytes()
    folder = Path(sys.argv[1], f"folder {number}")
    folder.mkdir()
    started = time.process_time()
    assert not TARGETS[name.partition(":")[0]](data, folder), name
    seconds[name] = time.process_time() - started
print(json.dumps(seconds))
"""


def refused(names: list[str], limit: int) -> dict[str, float]:
    """Seconds of processor time that each took, in a child that may take `limit` bytes more than its imports."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        Path(folder, "names").write_text(json.dumps(names))
        for number, name in enumerate(names):
            Path(folder, str(number)).write_bytes(HOSTILE[name]())
        done = subprocess.run(
            [sys.executable, "-c", CHILD, folder, str(limit)],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_hostile_files_are_refused_in_seconds_and_within_bounds() -> None:
    seconds = refused(list(HOSTILE), BYTES)
    assert max(seconds.values()) < SECONDS, seconds


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_the_bound_on_memory_is_felt() -> None:
    with pytest.raises(AssertionError, match="MemoryError"):
        refused(["npz: 256 MB in 260 kB", "config: 30 MB of empty lists"], 2**20)
