"""An archive that asks for more than it holds costs no more memory than one and a half times its size."""

import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

PROGRAM = """
import sys
from pathlib import Path
from vitport import npz
from vitport.errors import AssetError

def peak():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))

npz.verify(Path(sys.argv[1]))
before = peak()
try:
    npz.verify(Path(sys.argv[2]))
    npz.read(Path(sys.argv[2]))
    print("read", end=" ")
except AssetError:
    print("refused", end=" ")
print(peak() - before)
"""

SLACK = 4 * 2**20
"""Bytes that an interpreter's allocator may round up to."""


def member(declared: tuple[int, ...], data: bytes, padding: int = 0) -> bytes:
    """A .npy that declares a shape of float32, whatever it holds."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {declared}, }}{' ' * padding}\n".encode()
    return b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + data


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def overlapping() -> bytes:
    """A bomb of David Fifield's kind: a directory whose entries all name the same bytes."""
    data = bytearray(zipped({"a.npy": member((200_000,), bytes(800_000))}, zipfile.ZIP_DEFLATED))
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry, tail = bytes(data[start:end]), bytearray(data[end:])
    count = 2000
    entries = b"".join(entry.replace(b"a.npy", f"{index:05}".encode()[-5:]) for index in range(count))
    tail[8:12] = count.to_bytes(2, "little") * 2
    tail[12:16] = len(entries).to_bytes(4, "little")
    return bytes(data[:start]) + entries + bytes(tail)


HOSTILE = {
    "a bomb": lambda: zipped({"a.npy": member((2**28,), bytes(2**30))}, zipfile.ZIP_DEFLATED),
    "many bombs": lambda: zipped({f"{i}.npy": member((2**22,), bytes(2**24)) for i in range(20)}, zipfile.ZIP_DEFLATED),
    "a bomb that says it is small": lambda: zipped({"a.npy": member((4,), bytes(2**26))}, zipfile.ZIP_DEFLATED),
    "a shape of terabytes": lambda: zipped({"a.npy": member((2**40,), bytes(16))}),
    "a header without end": lambda: zipped({"a.npy": member((4,), bytes(16), padding=2**26)}, zipfile.ZIP_DEFLATED),
    "entries for the same bytes": overlapping,
    "a hundred thousand members": lambda: zipped({f"{i}.npy": member((1,), bytes(4)) for i in range(100_000)}),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_memory_is_bounded_by_the_file(tmp_path: Path, kind: str) -> None:
    np.savez(tmp_path / "good.npz", a=np.ones(3, np.float32))
    path = tmp_path / "hostile.npz"
    path.write_bytes(HOSTILE[kind]())
    command = [sys.executable, "-c", PROGRAM, tmp_path / "good.npz", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    verdict, grown = done.stdout.split()
    assert int(grown) <= 1.5 * path.stat().st_size + SLACK, f"{verdict}, a file of {path.stat().st_size}"
    assert verdict == "refused"


def test_memory_is_measured(tmp_path: Path) -> None:
    """A reader that believes the archive would be seen."""
    path = tmp_path / "large.npz"
    np.savez_compressed(path, a=np.zeros(2**24, np.float32))
    program = PROGRAM.replace("npz.read(", "__import__('numpy').load(").replace('print("read"', 'print("read"')
    program = program.replace("    npz.verify(Path(sys.argv[2]))\n", "").replace("argv[2]))\n", "argv[2]))['a']\n")
    np.savez(tmp_path / "good.npz", a=np.ones(3, np.float32))
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "good.npz", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 60 * 2**20


RELEASES = """
import sys
from pathlib import Path
from vitport import npz
from vitport.arrays import release

def mapped():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("RssFile"))

leaves = npz.read(Path(sys.argv[1]))
before, total = mapped(), sum(float(leaf.sum()) for leaf in leaves.values())
touched = mapped()
release(next(iter(leaves.values())).reshape(-1)[5:])
print(touched - before, touched - mapped(), total == sum(float(leaf.sum()) for leaf in leaves.values()))
release(None), release([1]), release(leaves["a"].copy())
"""


def test_pages_of_a_checkpoint_are_given_back_and_come_again(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(2, 5_000_000)).astype(np.float32)
    np.savez(tmp_path / "x.npz", a=values[0], b=values[1])
    command = [sys.executable, "-c", RELEASES, str(tmp_path / "x.npz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    touched, released, same = done.stdout.split()
    assert int(touched) > 39_000_000
    assert int(released) > 39_000_000
    assert same == "True"
