"""An npz is either read exactly or refused with a sentence that names the file and the member."""

import io
import os
import resource
import stat
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from vitport import npz
from vitport.archive import MAX_MEMBERS
from vitport.errors import AssetError, OutputError

ARRAYS = {
    "embedding/kernel": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "cls": np.linspace(-1, 1, 7, dtype=np.float32),
    "scalar": np.array(3.5),
    "empty": np.zeros((0, 4), np.float32),
    "half": np.arange(5, dtype=np.float16),
    "big_endian": np.arange(3, dtype=">f4"),
}


def saved(arrays: dict[str, np.ndarray] = ARRAYS, *, save=np.savez) -> bytes:
    file = io.BytesIO()
    save(file, **arrays)
    return file.getvalue()


def npy(header: str | bytes, data: bytes = b"", version: int = 1) -> bytes:
    """A `.npy` with any header, true or not."""
    raw = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw + data


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def literal(descr: str = "'<f4'", shape: str = "(2,)", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n"


GOOD = npy(literal(), bytes(8))


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def place(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "S_16.npz"
    path.write_bytes(data)
    return path


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_reads_what_numpy_saves(tmp_path: Path, save) -> None:
    path = place(tmp_path, saved(save=save))
    npz.verify(path)
    assert_same(npz.read(path), ARRAYS)


def test_keeps_the_order_of_the_file(tmp_path: Path) -> None:
    names = [f"block_{index}" for index in (10, 2, 1)]
    path = place(tmp_path, saved({name: np.zeros(2) for name in names}))
    assert list(npz.read(path)) == names


def test_arrays_are_read_only_maps(tmp_path: Path) -> None:
    for array in npz.read(place(tmp_path, saved())).values():
        assert not array.flags.writeable
        assert not array.flags.owndata


def test_a_map_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    npz.write(path, [(f"leaf_{i}", np.ones(2**20, np.float32)) for i in range(64)])
    code = (
        "import sys, resource; from pathlib import Path; from vitport import npz; path = Path(sys.argv[1]);"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; npz.read; before = peak();"
        "leaves = npz.read(path); npz.verify(path); print(peak() - before)"
    )
    grown = subprocess.run([sys.executable, "-c", code, path], check=True, capture_output=True, text=True).stdout
    assert int(grown) < 32 * 1024, "KiB more for 256 MiB of weights"


def test_fortran_order_comes_back_contiguous(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    found = npz.read(place(tmp_path, saved({"kernel": array})))["kernel"]
    np.testing.assert_array_equal(found, array)
    assert found.flags.c_contiguous
    assert not found.flags.writeable


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_npy_version(tmp_path: Path, version: int) -> None:
    path = place(tmp_path, zipped(("x.npy", npy(literal(), struct.pack("<2f", 1, 2), version))))
    np.testing.assert_array_equal(npz.read(path)["x"], np.float32([1, 2]))


def test_an_archive_without_members_is_empty_not_damaged(tmp_path: Path) -> None:
    assert npz.read(place(tmp_path, saved({}))) == {}


# What is refused before any member is looked at.

IMPOSTORS = {
    "empty": (b"", "is empty; download or copy it again"),
    "html": (b"\n<!DOCTYPE html><html><body>404 Not Found</body></html>", "a web or error page"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "a web or error page"),
    "json": (b'{"error": "not found"}', "JSON, perhaps the error message of a server"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "gzip": (b"\x1f\x8b\x08" + bytes(60), "gzip; unpack it first"),
    "npy": (GOOD, "a single .npy array"),
    "pickle": (b"\x80\x04\x95" + bytes(60), "a Python pickle, which can run code"),
    "tar": (bytes(257) + b"ustar" + bytes(250), "a tar archive"),
    "zeros": (bytes(4096), "zeros, perhaps a download that never got its data"),
    "noise": (b"MZ\x90 something", "something else; it begins with b'MZ"),
}


@pytest.mark.parametrize(("data", "message"), IMPOSTORS.values(), ids=IMPOSTORS)
def test_says_what_the_file_is_instead(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(AssetError, match=r"S_16\.npz") as error:
        npz.read(place(tmp_path, data))
    assert message in str(error.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match="there is no file"):
        npz.read(tmp_path / "no.npz")
    with pytest.raises(AssetError, match="is not a regular file"):
        npz.read(tmp_path)


@pytest.mark.parametrize("keep", [0.5, -100, -1], ids=["half", "minus 100", "minus 1"])
def test_truncated(tmp_path: Path, keep: float) -> None:
    data = saved()
    end = int(len(data) * keep) if keep > 0 else int(keep)
    with pytest.raises(AssetError, match=r"S_16\.npz is truncated: \d+ bytes without the record that ends a zip"):
        npz.read(place(tmp_path, data[:end]))


# What is refused while members are listed.


def duplicated() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate name"):
        return zipped(("x.npy", GOOD), ("x.npy", GOOD))


def overlapping() -> bytes:
    """Two directory entries that point at the same bytes (the zip bomb of David Fifield)."""
    data = zipped(("x.npy", GOOD), ("y.npy", GOOD))
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 4)
    return patched(data, second + 42, struct.pack("<I", 0))


def gap() -> bytes:
    """One byte between two members, every offset behind it adjusted."""
    data = zipped(("x.npy", GOOD), ("y.npy", GOOD))
    second_local = data.index(b"PK\x03\x04", 4)
    data = data[:second_local] + b"?" + data[second_local:]
    directory = data.index(b"PK\x01\x02")
    second = data.index(b"PK\x01\x02", directory + 4)
    data = patched(data, second + 42, struct.pack("<I", second_local + 1))
    return patched(data, len(data) - 6, struct.pack("<I", directory))


def encrypted() -> bytes:
    data = zipped(("x.npy", GOOD))
    return patched(data, data.index(b"PK\x01\x02") + 8, b"\x01")


def streamed() -> bytes:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def seek(self, *args) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    np.savez(pipe, x=np.zeros(3))
    return pipe.getvalue()


def longer_than_file() -> bytes:
    data = zipped(("x.npy", GOOD))
    for at in (18, 22, data.index(b"PK\x01\x02") + 20, data.index(b"PK\x01\x02") + 24):
        data = patched(data, at, struct.pack("<I", 2**30))
    return data


def counted(count: int) -> bytes:
    data = zipped(("x.npy", GOOD))
    return patched(data, len(data) - 14, struct.pack("<2H", count, count))


def named(raw: bytes) -> bytes:
    return zipped(("N" * len(raw), GOOD)).replace(b"N" * len(raw), raw)


def flipped(magic: bytes, offset: int) -> bytes:
    data = zipped(("w.npy", GOOD), ("x.npy", GOOD))
    at = data.index(magic) + offset
    return patched(data, at, bytes([data[at] ^ 1]))


def with_extra() -> bytes:
    file, info = io.BytesIO(), zipfile.ZipInfo("x.npy")
    info.extra = struct.pack("<HHI", 0x5455, 4, 0)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(info, GOOD)
    return file.getvalue()


MALFORMED = {
    "duplicate": (duplicated, "member 'x.npy' is there 2 times"),
    "overlap": (overlapping, "member 'y.npy' overlaps the one before it"),
    "gap": (gap, "member 'y.npy' leaves 1 bytes before it"),
    "encrypted": (encrypted, "member 'x.npy' is encrypted"),
    "streamed": (streamed, "member 'x.npy' has zip flags 0x0008"),
    "bzip2": (lambda: zipped(("x.npy", GOOD), method=zipfile.ZIP_BZIP2), "member 'x.npy' is packed by method 12"),
    "beyond the end": (longer_than_file, "reaches beyond the"),
    "trailing bytes": (lambda: saved() + b"#!/bin/sh", "has 9 bytes after the end of its zip archive"),
    "leading bytes": (lambda: b"PK\x03\x04" + saved(), "has a damaged end record"),
    "too many": (lambda: counted(MAX_MEMBERS + 1), "lists 20001 members in"),
    "count above": (lambda: counted(2), "has a damaged central directory at entry 1 of 2"),
    "count below": (lambda: counted(0), "bytes more in its central directory than its 0 members need"),
    "dot dot": (lambda: named(b"../../x.npy"), "holds a `.` or `..` segment"),
    "absolute": (lambda: named(b"/etc/x.npy"), "is an absolute path"),
    "drive": (lambda: named(b"C:x.npy"), "is an absolute path"),
    "backslash": (lambda: named(b"a\\x.npy"), "holds a backslash"),
    "NUL": (lambda: named(b"a\0b.npy"), "holds a NUL or control character"),
    "escape of terminals": (lambda: named("a\x9b31m.npy".encode()), "holds a NUL or control character"),
    "right to left": (lambda: named("a\u202eb.npy".encode()), "holds a line break, a change of direction or half a"),
    "long name": (lambda: named(b"a" * 1001 + b".npy"), "is longer than 1000 characters"),
    "not UTF-8": (lambda: named(b"\xff\xfe.npy"), "has a name that is not UTF-8"),
    "no name": (lambda: zipped(("", GOOD)), "has a name that is empty"),
    "only a suffix": (lambda: named(b".npy"), "is not that of a .npy array"),
    "folder": (lambda: zipped(("a/", b"")), "is not that of a .npy array"),
    "not npy": (lambda: named(b"weights.pkl"), "is not that of a .npy array"),
    "directory signature": (lambda: flipped(b"PK\x01\x02", 0), "has a damaged central directory at entry 0 of 2"),
    "directory offset": (lambda: flipped(b"PK\x05\x06", 16), "has a damaged end record"),
    "directory crc": (lambda: flipped(b"PK\x01\x02", 16), "has a local header that contradicts the directory"),
    "directory size": (lambda: flipped(b"PK\x01\x02", 24), "has a local header that contradicts the directory"),
    "directory date": (lambda: flipped(b"PK\x01\x02", 14), "has a local header that contradicts the directory"),
    "directory version": (lambda: flipped(b"PK\x01\x02", 6), "such as numpy.savez never writes"),
    "directory disk": (lambda: flipped(b"PK\x01\x02", 34), "such as numpy.savez never writes"),
    "directory mode": (lambda: flipped(b"PK\x01\x02", 38), "has members of several makers"),
    "local version": (lambda: flipped(b"x.npy", -26), "has a local header that contradicts the directory"),
    "extra field": (with_extra, "has an extra field other than zip64 sizes"),
    "local signature": (lambda: flipped(b"x.npy", -29), "has no local header where the directory says"),
    "local name": (lambda: flipped(b"x.npy", 0), "has a local header that contradicts the directory"),
}


@pytest.mark.parametrize(("make", "message"), MALFORMED.values(), ids=MALFORMED)
def test_refuses_a_strange_archive(tmp_path: Path, make, message: str) -> None:
    with pytest.raises(AssetError, match=r"S_16\.npz") as error:
        npz.read(place(tmp_path, make()))
    assert message in str(error.value)


def test_a_deflate_bomb_is_refused_before_it_inflates(tmp_path: Path) -> None:
    header = literal(shape=f"({2**26},)")
    data = zipped(("x.npy", npy(header, bytes(2**28))), method=zipfile.ZIP_DEFLATED)
    path = place(tmp_path, data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AssetError, match="weights don't compress like this"):
        npz.read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**15


@pytest.mark.parametrize("declared", [7, 200], ids=["more", "less"])
def test_a_deflated_member_must_inflate_to_what_it_declares(tmp_path: Path, declared: int) -> None:
    data = zipped(("x.npy", GOOD), method=zipfile.ZIP_DEFLATED)
    for at in (22, data.index(b"PK\x01\x02") + 24):
        data = patched(data, at, struct.pack("<I", declared))
    with pytest.raises(AssetError, match=f"'x.npy' does not inflate to the {declared} bytes it declares"):
        npz.read(place(tmp_path, data))


def test_a_damaged_deflate_stream(tmp_path: Path) -> None:
    data = zipped(("x.npy", GOOD), method=zipfile.ZIP_DEFLATED)
    with pytest.raises(AssetError, match=r"'x\.npy' can't be inflated: "):
        npz.read(place(tmp_path, patched(data, 30 + len("x.npy"), b"\xff\xff\xff")))


# What is refused in the header of an array.

HEADERS = {
    "object array": (npy(literal("'|O'")), "holds pickled Python objects, which can run code"),
    "structured": (npy(literal("[('a', '<f4')]"), bytes(8)), "is of type with fields; only plain arrays of numbers"),
    "subarray": (npy(literal("'(99999,99999)f8'"), bytes(8)), "only plain arrays of numbers are read"),
    "zero width": (npy(literal("'|V0'", f"({2**40},)")), "only plain arrays of numbers are read"),
    "unknown type": (npy(literal("'<f3'"), bytes(6)), "which NumPy doesn't know"),
    "huge shape": (npy(literal(shape=f"({2**40},)"), bytes(8)), "declares shape (1099511627776,) of float32"),
    "overflowing shape": (
        npy(literal(shape=f"({2**32}, {2**32})"), bytes(8)),
        "declares a shape that no array can have",
    ),
    "huge beside zero": (npy(literal(shape=f"(0, {2**62})")), "declares a shape that no array can have"),
    "huge text beside zero": (npy(literal("'<U9999'", f"(0, {2**48})")), "declares a shape that no array can have"),
    "negative shape": (npy(literal(shape="(-2,)"), bytes(8)), "declares a shape that no array can have"),
    "fractional shape": (npy(literal(shape="(2.0,)"), bytes(8)), "declares a shape that no array can have"),
    "endless number": (npy(literal(shape=f"(0x{'f' * 50000},)"), bytes(8)), "declares a shape that no array can have"),
    "numeric type": (npy(literal(f"0x{'f' * 50000}"), bytes(8)), "only plain arrays of numbers are read"),
    "too many axes": (npy(literal(shape=str((1,) * 33)), bytes(4)), "declares a shape that no array can have"),
    "shape too small": (npy(literal(shape="(1,)"), bytes(8)), "declares shape (1,) of float32, 4 bytes, but holds 8"),
    "trailing bytes": (GOOD + b"!", "declares shape (2,) of float32, 8 bytes, but holds 9"),
    "64 kB header": (npy(literal() + " " * 2**16, bytes(8), version=2), "has a .npy header of 6"),
    "longer than member": (npy(literal())[:40], "is shorter (40 bytes) than its .npy header"),
    "code": (npy("__import__('os').system('true')\n"), "has a .npy header that is no literal"),
    "deep": (npy("(" * 60000), "has a .npy header that is no literal"),
    "many signs": (npy("-" * 60000 + "1"), "has a .npy header that is no literal"),
    "NUL in header": (npy("{\0}"), "has a .npy header that is no literal"),
    "order is a number": (npy(literal(order="1"), bytes(8)), "has a .npy header that is no literal"),
    "order is text": (npy(literal(order="'no'"), bytes(8)), "has a .npy header that is no literal"),
    "a fourth field": (npy(literal(order="False, 'x': 1"), bytes(8)), "has a .npy header that is no literal"),
    "a separator behind": (npy(literal() + "\x1d", bytes(8)), "has a .npy header that is no literal"),
    "no shape": (npy("{'descr': '<f4', 'fortran_order': False}\n"), "has a .npy header that is no literal"),
    "not npy": (b"import os" * 9, "is not a .npy array of version 1, 2 or 3"),
    "version 1.7": (GOOD.replace(b"\1\0", b"\1\7", 1), "is not a .npy array of version 1, 2 or 3"),
    "version 9": (npy(literal(), bytes(8), version=9), "is not a .npy array of version 1, 2 or 3"),
    "no bytes": (b"", "is not a .npy array of version 1, 2 or 3"),
}


@pytest.mark.parametrize(("member", "message"), HEADERS.values(), ids=HEADERS)
def test_refuses_a_strange_array(tmp_path: Path, member: bytes, message: str) -> None:
    with pytest.raises(AssetError, match=r"S_16\.npz: member 'x\.npy'") as error:
        npz.read(place(tmp_path, zipped(("x.npy", member))))
    assert message in str(error.value)


# Flipped bits.


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=["stored", "deflated"])
def test_verify_sees_a_flipped_data_bit(tmp_path: Path, save) -> None:
    data = saved({"x": np.frombuffer(os.urandom(4096), "<u4")}, save=save)
    with pytest.raises(
        AssetError, match=r"member 'x\.npy' (is damaged: its CRC-32 is|can't be inflated|does not inflate)"
    ):
        npz.verify(place(tmp_path, patched(data, 2000, bytes([data[2000] ^ 4]))))


SMALL = {"a/b": np.arange(6, dtype=np.float32).reshape(2, 3), "c": np.ones(3, np.float32)}


# Writing.


@pytest.mark.skipif(sys.version_info < (3, 11, 4), reason="zipfile wrote other headers before: python/cpython#103861")
def test_writes_the_bytes_of_savez(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    npz.write(path, iter(ARRAYS.items()))
    assert path.read_bytes() == saved()
    npz.verify(path)


def test_numpy_loads_what_is_written(tmp_path: Path) -> None:
    arrays = ARRAYS | {"größe": np.ones(2), "turned": np.arange(6).reshape(2, 3).T}
    path = tmp_path / "x.npz"
    npz.write(path, arrays.items())
    with np.load(path) as file:
        assert_same({name: file[name] for name in file}, arrays)
    assert_same(npz.read(path), arrays)


def test_offsets_beyond_two_gibibytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "LIMIT", 100)
    path = tmp_path / "x.npz"
    npz.write(path, SMALL.items())
    npz.verify(path)
    assert_same(npz.read(path), SMALL)
    with np.load(path) as file:
        assert_same({name: file[name] for name in file}, SMALL)


@pytest.mark.parametrize("umask", [0o022, 0o077], ids=oct)
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int) -> None:
    old = os.umask(umask)
    try:
        npz.write(tmp_path / "x.npz", SMALL.items())
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x.npz").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", ["../x", "/x", "a\\b", "", "a\0", "c"], ids=repr)
def test_an_unfit_name_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="can't name an array of an npz"):
        npz.write(tmp_path / "x.npz", [("c", np.ones(2)), (name, np.ones(2))])
    assert list(tmp_path.iterdir()) == []


def test_objects_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds Python objects"):
        npz.write(tmp_path / "x.npz", [("c", np.array([print], object))])
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"old")

    def arrays():
        yield "a", np.ones(2)
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"x\.npz can't be written: No space left on device"):
        npz.write(path, arrays())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written: No such file or directory"):
        npz.write(tmp_path / "no" / "x.npz", SMALL.items())


def test_crc_is_that_of_zlib(tmp_path: Path) -> None:
    npz.write(tmp_path / "x.npz", SMALL.items())
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None
        assert [zlib.crc32(archive.read(info)) for info in archive.infolist()] == [i.CRC for i in archive.infolist()]
