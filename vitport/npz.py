"""Reads and writes the `.npz` files of checkpoints: zip archives of `.npy` arrays, as `numpy.savez` makes them.

Requirements that shaped it:
- a checkpoint of 1.3 GB costs no memory: a stored member is a read-only map of its bytes in the file;
- the file is hostile until checked: nothing is allocated, inflated or believed before it was compared with the
  sizes that are really there (`archive.py`), and nothing in it can be executed (no pickle);
- the same arrays make the same bytes, whatever the Python version, clock or user.

Format of `.npy`: NumPy Enhancement Proposal 1, versions 1 to 3.
"""

import ast
import math
import re
import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vitport.appearing import appearing
from vitport.archive import (
    CENTRAL,
    CHUNK,
    DEFLATED,
    END,
    END64,
    LOCAL,
    LOCATOR64,
    SENTINEL,
    STORED,
    UTF8,
    ZIP64,
    Archive,
    Member,
    chunks,
    inflated,
    match_crc,
    members_of,
    open_archive,
)
from vitport.member_names import bad_member

MAX_HEADER = 64 * 1024
"""Bytes of the header of one `.npy`; NumPy itself writes 128."""


LIMIT, UNIX, NEW_YEAR_1980, OWNER_READS_AND_WRITES = 2**31 - 1, 3, 0x21, 0o600 << 16
"""What `zipfile` writes: 32-bit numbers up to here, system, date, mode."""


def read(path: Path) -> dict[str, np.ndarray]:
    """Every array of the archive by its name, in the order of the file; stored ones are read-only maps, not copies.

    Maps need not be aligned to their item size: an archive packs members byte by byte.
    Raises AssetError for a file that is missing, is no npz, is damaged, or that asks for more than it holds.
    """
    archive = open_archive(path)
    return {member.name.removesuffix(".npy"): _array(archive, member) for member in members_of(archive)}


def verify(path: Path) -> None:
    """Compares the CRC-32 of every member with its bytes, in constant memory; read() alone doesn't look at the data.

    Raises AssetError as read() does, and for the first member with a flipped bit.
    """
    archive = open_archive(path)
    with path.open("rb") as file:
        for member in members_of(archive):
            file.seek(member.start)
            crc = 0
            for chunk in inflated(archive, member, chunks(file, member.packed)):
                crc = zlib.crc32(chunk, crc)
            match_crc(archive, member, crc)
    read(path)


def write(path: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """Writes what `numpy.savez` would, one array at a time, and lets it appear under `path` only when it is whole.

    Raises OutputError where the disk is full or the folder can't be written, ValueError for an unfit name.
    """
    with appearing(path) as file:
        directory: list[bytes] = []
        seen: set[str] = set()
        for name, array in arrays:
            if name in seen or bad_member(f"{name}.npy"):
                raise ValueError(f"{name!r} can't name an array of an npz, or names two")
            seen.add(name)
            directory.append(_write_member(file, f"{name}.npy", array))
        _write_end(file, directory)


def _array(archive: Archive, member: Member) -> np.ndarray:
    buffer, base = archive.bytes, member.start
    if member.method == DEFLATED:
        packed = iter([archive.bytes[member.start : member.start + member.packed]])
        buffer, base = b"".join(inflated(archive, member, packed)), 0
        match_crc(archive, member, zlib.crc32(buffer))
    dtype, fortran, shape, length = _npy_header(archive, member, buffer[base : base + min(member.size, MAX_HEADER)])
    needs, has = math.prod(shape) * dtype.itemsize, member.size - length
    if needs != has:
        archive.refuse(f"declares shape {shape} of {dtype}, {needs} bytes, but holds {has}", member.name)
    array = np.ndarray(shape, dtype, buffer, base + length, order="F" if fortran else "C")
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
        array.flags.writeable = False
    return array


def _npy_header(archive: Archive, member: Member, head: bytes) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """Type, Fortran order, shape, and the bytes that the header takes."""
    start, length = {b"\1\0": (10, 2), b"\2\0": (12, 4), b"\3\0": (12, 4)}.get(head[6:8], (0, 0))
    if head[:6] != b"\x93NUMPY" or not start or len(head) < start:
        archive.refuse("is not a .npy array of version 1, 2 or 3", member.name)
    end = start + int.from_bytes(head[8 : 8 + length], "little")
    if end > MAX_HEADER:
        archive.refuse(f"has a .npy header of {end} bytes; at most {MAX_HEADER} are read", member.name)
    if end > len(head):
        archive.refuse(f"is shorter ({len(head)} bytes) than its .npy header ({end})", member.name)
    try:
        header = ast.literal_eval(head[start:end].decode("utf-8" if head[6] == 3 else "latin-1"))
        descr, fortran, shape = (header.pop(key) for key in ("descr", "fortran_order", "shape"))
        if header or type(fortran) is not bool:
            raise ValueError("more or other than NumPy writes")
    except (AttributeError, ValueError, SyntaxError, TypeError, KeyError, IndexError, MemoryError, RecursionError):
        archive.refuse("has a .npy header that is no literal of descr, fortran_order and shape", member.name)
    dtype = _dtype(archive, member, descr)
    return dtype, fortran, _shape(archive, member, shape, dtype.itemsize), end


def _dtype(archive: Archive, member: Member, descr: object) -> np.dtype:
    if isinstance(descr, str) and descr.lstrip("<>|=").startswith("O"):
        archive.refuse("holds pickled Python objects, which can run code; only numbers are read", member.name)
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=][biufcSUV][1-9][0-9]{0,3}", descr):
        shown = repr(descr[:60]) if isinstance(descr, str) else "with fields"
        archive.refuse(f"is of type {shown}; only plain arrays of numbers are read", member.name)
    try:
        return np.dtype(descr)
    except TypeError:
        archive.refuse(f"is of type {descr!r}, which NumPy doesn't know", member.name)


def _shape(archive: Archive, member: Member, shape: object, itemsize: int) -> tuple[int, ...]:
    whole = isinstance(shape, tuple) and len(shape) <= 32 and all(type(n) is int and n >= 0 for n in shape)
    if not whole or math.prod(max(n, 1) for n in shape) * itemsize > 2**48:
        archive.refuse("declares a shape that no array can have: too many axes, too large, or no sizes", member.name)
    return shape


def _write_member(file: BinaryIO, name: str, array: np.ndarray) -> bytes:
    """Appends one stored member; returns its entry for the central directory."""
    array = np.asarray(array, order="C")
    if array.dtype.hasobject:
        raise ValueError(f"{name!r} holds Python objects, which an npz of vitport never does")
    head, data = _npy_head(array), array.reshape(-1).view(np.uint8).data
    raw, at, size = name.encode(), file.tell(), len(head) + array.nbytes
    flags = 0 if name.isascii() else UTF8
    crc = zlib.crc32(data, zlib.crc32(head))
    sizes = struct.pack("<HHQQ", 1, 16, size, size)
    stamp = (flags, STORED, 0, NEW_YEAR_1980, crc)
    file.write(LOCAL.pack(b"PK\x03\x04", ZIP64, *stamp, SENTINEL, SENTINEL, len(raw), len(sizes)) + raw + sizes)
    file.write(head)
    for start in range(0, len(data), CHUNK):
        file.write(data[start : start + CHUNK])
    return _central_entry(raw, stamp, size, at)


def _npy_head(array: np.ndarray) -> bytes:
    head = BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    return head.getvalue()


def _central_entry(raw: bytes, stamp: tuple[int, ...], size: int, at: int) -> bytes:
    values = (size, size, at)
    wide = b"".join(struct.pack("<Q", value) for value in values if value > LIMIT)
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    *sizes, where = (value if value <= LIMIT else SENTINEL for value in values)
    lengths = (len(raw), len(extra), 0, 0, 0)
    fields = (UNIX << 8 | ZIP64, ZIP64, *stamp, *sizes, *lengths, OWNER_READS_AND_WRITES, where)
    return CENTRAL.pack(b"PK\x01\x02", *fields) + raw + extra


def _write_end(file: BinaryIO, directory: list[bytes]) -> None:
    start, count = file.tell(), len(directory)
    file.writelines(directory)
    end = file.tell()
    size = end - start
    if count > 0xFFFF or start > LIMIT or size > LIMIT:
        record = (END64.size - 12, ZIP64, ZIP64, 0, 0, count, count, size, start)
        file.write(END64.pack(b"PK\x06\x06", *record) + LOCATOR64.pack(b"PK\x06\x07", 0, end, 1))
    count, size, start = min(count, 0xFFFF), min(size, SENTINEL), min(start, SENTINEL)
    file.write(END.pack(b"PK\x05\x06", 0, 0, count, count, size, start, 0))
