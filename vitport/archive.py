"""The zip archive around the arrays of an npz: parsed strictly, written byte for byte as `numpy.savez` does.

`zipfile` serves archives as they come in the wild; a checkpoint has no reason to be strange, so here the members must
tile the file. No byte belongs to two of them or to none, both headers of a member agree, nothing is inflated beyond
what it declares, and what it declares is bounded.

Format: PKWARE APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.
"""

import mmap
import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NoReturn

from vitport.errors import AssetError

MAX_MEMBERS = 20_000
"""The largest published tree has 551 leaves; with the state of its optimizer about 1700."""

MAX_DIRECTORY = MAX_MEMBERS * 1024
"""Bytes of the central directory; names in the published files are below 100 bytes."""

INFLATION, SMALL = 20, 64 * 2**20
"""Deflated members may inflate to this many times the file, or to 64 MiB. Trained weights shrink by a tenth."""

CHUNK = 2**20
STORED, DEFLATED, SENTINEL = 0, 8, 0xFFFFFFFF
ENCRYPTED, UTF8, DEFLATE_LEVEL = 0x1, 0x800, 0x6
LOCAL, CENTRAL = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I")
END, LOCATOR64, END64 = struct.Struct("<4s4H2IH"), struct.Struct("<4sIQI"), struct.Struct("<4sQ2H2I4Q")

IMPOSTORS: tuple[tuple[bytes, str], ...] = (
    (rb"\s*<(!doctype|html|head|\?xml|error)", "a web or error page, as servers send it instead of a missing file"),
    (rb"\s*[{\[]", "JSON, perhaps the error message of a server"),
    (rb"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (rb"\x1f\x8b", "gzip; unpack it first"),
    (rb"\x93NUMPY", "a single .npy array"),
    (rb"\x80[\x02-\x05]", "a Python pickle, which can run code"),
    (rb".{257}ustar", "a tar archive; unpack it first"),
    (rb"\0{64}", "zeros, perhaps a download that never got its data"),
)
"""What people have instead of a zip: first bytes → what to call it."""

BAD_PATHS: tuple[tuple[str, str], ...] = (
    (r"", "is empty"),
    (r".*[\x00-\x1f\x7f].*", "holds a NUL or control character"),
    (r".*\\.*", "holds a backslash"),
    (r"/.*|[A-Za-z]:.*", "is an absolute path"),
    (r"(.*/)?\.\.?(/.*)?", "holds a `.` or `..` segment"),
    (r".*//.*", "holds an empty segment"),
)
"""Pattern of the whole name of an archive's member → why it can't be a path below any folder."""


@dataclass(frozen=True, slots=True)
class Member:
    """One array in the archive: where its bytes lie and what the archive says of them."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    header: int
    start: int = 0


@dataclass(frozen=True, slots=True)
class Archive:
    """A file mapped read-only."""

    path: Path
    bytes: mmap.mmap

    def refuse(self, complaint: str, member: str | None = None) -> NoReturn:
        """Raises AssetError naming the file and, if given, the member."""
        where = f"{self.path}: member {member[:200]!r}" if member is not None else f"{self.path}"
        raise AssetError(f"{where} {complaint}")

    def unpack(self, layout: struct.Struct, offset: int, magic: bytes) -> tuple | None:
        """The fields after `magic` at `offset`, or None where no such record is."""
        if offset < 0 or offset + layout.size > len(self.bytes) or self.bytes[offset : offset + 4] != magic:
            return None
        return layout.unpack_from(self.bytes, offset)[1:]


def refuse_irregular(path: Path) -> None:
    """Raises AssetError for a folder, a pipe or a device, which have no end or no beginning, and for nothing at all."""
    if not os.path.lexists(path):
        raise AssetError(f"there is no file {path}")
    if not os.path.isfile(path):
        raise AssetError(f"{path} is not a regular file")


def open_archive(path: Path) -> Archive:
    """The file, mapped. Raises AssetError where there is none, it is empty, or it can't be read."""
    refuse_irregular(path)
    try:
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise AssetError(f"{path} is empty; download or copy it again")
            return Archive(path, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise AssetError(f"{path} can't be read: {error.strerror}") from error


def members_of(archive: Archive) -> list[Member]:
    """Members in the order of the file, after every check that doesn't need their data."""
    if what := what_it_is_instead(archive.bytes[:512]):
        archive.refuse(f"is not an npz (zip) file but {what}")
    start, end, count = _directory(archive)
    members = sorted(_entries(archive, start, end, count), key=lambda member: member.header)
    for name, times in Counter(member.name for member in members).most_common(1):
        if times > 1:
            archive.refuse(f"is there {times} times", name)
    _refuse_bomb(archive, members)
    return list(_tiled(archive, members, start))


def what_it_is_instead(head: bytes) -> str | None:
    """What a file is that begins with `head`, in words; None for a zip."""
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    known = (what for pattern, what in IMPOSTORS if re.match(pattern, head, re.IGNORECASE | re.DOTALL))
    return f"{next(known, 'something else')}; it begins with {head[:40]!r}"


def _directory(archive: Archive) -> tuple[int, int, int]:
    """Where the central directory begins and ends, and how many members it lists."""
    at = len(archive.bytes) - END.size
    end = archive.unpack(END, at, b"PK\x05\x06")
    if end is None:
        _refuse_end(archive)
    disk, first_disk, here, count, size, start, comment = end
    locator = archive.unpack(LOCATOR64, at - LOCATOR64.size, b"PK\x06\x07")
    if locator is not None:
        at = locator[1]
        end64 = archive.unpack(END64, at, b"PK\x06\x06")
        if end64 is None or at + END64.size + LOCATOR64.size + END.size != len(archive.bytes):
            archive.refuse("has a damaged zip64 end record; download or copy it again")
        disk, first_disk, here, count, size, start = end64[3:]
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        archive.refuse(f"lists {count} members in {size} bytes; no checkpoint has more than {MAX_MEMBERS}")
    if (disk, first_disk, here, comment, start + size) != (0, 0, count, 0, at):
        archive.refuse("has a damaged end record: its central directory is not where it says; download it again")
    return start, at, count


def _refuse_end(archive: Archive) -> NoReturn:
    size = len(archive.bytes)
    last = archive.bytes.rfind(b"PK\x05\x06", max(0, size - 2**16 - END.size))
    if last >= 0 and last + END.size < size:
        archive.refuse(
            f"has {size - last - END.size} bytes after the end of its zip archive, which npz files never have"
        )
    archive.refuse(f"is truncated: {size} bytes without the record that ends a zip; download or copy it again")


def _entries(archive: Archive, at: int, end: int, count: int) -> Iterator[Member]:
    for index in range(count):
        fields = archive.unpack(CENTRAL, at, b"PK\x01\x02")
        if fields is None or at + CENTRAL.size + sum(fields[9:12]) > end:
            archive.refuse(f"has a damaged central directory at entry {index} of {count}; download or copy it again")
        extra_at = at + CENTRAL.size + fields[9]
        name = _name(archive, archive.bytes[at + CENTRAL.size : extra_at])
        extra = archive.bytes[extra_at : extra_at + fields[10]]
        at = extra_at + fields[10] + fields[11]
        _refuse_flags(archive, name, flags=fields[2], method=fields[3])
        size, packed, header = _wide(archive, name, (fields[8], fields[7], fields[15]), extra)
        yield Member(name, fields[3], fields[6], packed, size, header)
    if at != end:
        archive.refuse(f"has {end - at} bytes more in its central directory than its {count} members need")


def _name(archive: Archive, raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        archive.refuse(f"has a name that is not UTF-8: {raw!r}", "?")
    if complaint := bad_name(name):
        archive.refuse(f"has a name that {complaint}", name)
    return name


def bad_name(name: str) -> str | None:
    """Why a member of an npz can't have this name, or None."""
    array = re.fullmatch(r".*[^/]\.npy", name, re.DOTALL)
    return bad_path(name) or (None if array else "is not that of a .npy array")


def bad_path(name: str) -> str | None:
    """Why a member of any archive can't have this name, or None."""
    return next((why for pattern, why in BAD_PATHS if re.fullmatch(pattern, name, re.DOTALL)), None)


def _refuse_flags(archive: Archive, name: str, *, flags: int, method: int) -> None:
    if flags & ENCRYPTED:
        archive.refuse("is encrypted", name)
    if flags & ~(UTF8 | DEFLATE_LEVEL):
        archive.refuse(f"has zip flags {flags:#06x}, which numpy.savez never sets; save it again to a file", name)
    if method not in (STORED, DEFLATED):
        archive.refuse(f"is packed by method {method}; only stored and deflated members are read", name)


def _wide(archive: Archive, name: str, values: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """`values` with every 32-bit overflow mark replaced by its 64 bits from the zip64 extra field, in order."""
    field = _zip64_field(extra)
    wide = []
    for value in values:
        if value == SENTINEL:
            if len(field) < 8:
                archive.refuse("lacks its zip64 sizes; the file is damaged", name)
            value, field = int.from_bytes(field[:8], "little"), field[8:]
        wide.append(value)
    return tuple(wide)


def _zip64_field(extra: bytes) -> bytes:
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _refuse_bomb(archive: Archive, members: list[Member]) -> None:
    inflated = sum(member.size for member in members if member.method == DEFLATED)
    if inflated > max(SMALL, INFLATION * len(archive.bytes)):
        archive.refuse(f"would inflate {len(archive.bytes)} bytes to {inflated}; weights don't compress like this")


def _tiled(archive: Archive, members: list[Member], end: int) -> Iterator[Member]:
    """Members with the place of their data; every local header must agree, and lie where the one before ended."""
    at = 0
    for member in members:
        if member.header != at:
            kind = (
                "overlaps the one before it" if member.header < at else f"leaves {member.header - at} bytes before it"
            )
            archive.refuse(f"{kind}; the file is damaged or forged", member.name)
        start = _data_start(archive, member)
        at = start + member.packed
        if at > end:
            archive.refuse(f"of {member.packed} bytes reaches beyond the {end} bytes of data in the file", member.name)
        yield replace(member, start=start)
    if at != end:
        archive.refuse(f"has {end - at} bytes between its last member and its central directory")


def _data_start(archive: Archive, member: Member) -> int:
    fields = archive.unpack(LOCAL, member.header, b"PK\x03\x04")
    if fields is None:
        archive.refuse("has no local header where the directory says; the file is damaged", member.name)
    name_at = member.header + LOCAL.size
    extra_at = name_at + fields[8]
    start = extra_at + fields[9]
    raw = archive.bytes[name_at:extra_at]
    size, packed = _wide(archive, member.name, (fields[7], fields[6]), archive.bytes[extra_at:start])
    found = (raw, fields[1] & ~UTF8, fields[2], fields[5], packed, size)
    _refuse_flags(archive, member.name, flags=fields[1], method=fields[2])
    stored_differs = member.method == STORED and packed != size
    expected = (member.name.encode(), found[1], member.method, member.crc, member.packed, member.size)
    if found != expected or stored_differs:
        archive.refuse("has a local header that contradicts the directory; the file is damaged", member.name)
    return start


def chunks(file: BinaryIO, length: int) -> Iterator[bytes]:
    """The next `length` bytes of the file, at most a megabyte at a time."""
    while length > 0 and (chunk := file.read(min(CHUNK, length))):
        length -= len(chunk)
        yield chunk


def inflated(archive: Archive, member: Member, packed: Iterator[bytes]) -> Iterator[bytes]:
    """The member's bytes; never more than it declares, whatever the stream would still give."""
    if member.method == STORED:
        yield from packed
        return
    stream, left = zlib.decompressobj(-zlib.MAX_WBITS), member.size
    try:
        for chunk in packed:
            piece = b"."
            while (piece or chunk) and not stream.eof and left >= 0:
                piece = stream.decompress(chunk, min(CHUNK, left + 1))
                left, chunk = left - len(piece), stream.unconsumed_tail
                yield piece
    except zlib.error as error:
        archive.refuse(f"can't be inflated: {error}", member.name)
    if left or not stream.eof or stream.unused_data:
        archive.refuse(f"does not inflate to the {member.size} bytes it declares", member.name)


def match_crc(archive: Archive, member: Member, crc: int) -> None:
    """Raises AssetError unless the bytes of the member, whose CRC-32 is `crc`, are those once archived."""
    if crc != member.crc:
        complaint = f"is damaged: its CRC-32 is {crc:08x} and should be {member.crc:08x}; download or copy it again"
        archive.refuse(complaint, member.name)
