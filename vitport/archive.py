"""The zip archive around the arrays of an npz: parsed strictly, written byte for byte as `numpy.savez` does.

`zipfile` serves archives as they come in the wild; a checkpoint has no reason to be strange, so here the members must
tile the file. No byte belongs to two of them or to none, both headers of a member agree, nothing is inflated beyond
what it declares, and what it declares is bounded. What a file says once, as who made a member, all its members say
alike; so a single flipped bit shows, wherever it lies.

Format: PKWARE APPNOTE.TXT 6.3, sections 4.3 and 4.5.3.
"""

import mmap
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, NoReturn

from vitport.errors import AssetError
from vitport.impostors import what_it_is_instead
from vitport.member_names import bad_member

MAX_MEMBERS = 20_000
"""The largest published tree has 551 leaves; with the state of its optimizer about 1700."""

MAX_DIRECTORY = MAX_MEMBERS * 1024
"""Bytes of the central directory; names in the published files are below 100 bytes."""

INFLATION, SMALL = 20, 64 * 2**20
"""Deflated members may inflate to this many times the file, or to 64 MiB. Trained weights shrink by a tenth."""

CHUNK = 2**20
STORED, DEFLATED, SENTINEL, SHORT_SENTINEL = 0, 8, 0xFFFFFFFF, 0xFFFF
ENCRYPTED, UTF8, DEFLATE_LEVEL = 0x1, 0x800, 0x6
LOCAL, CENTRAL = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I")
END, LOCATOR64, END64 = struct.Struct("<4s4H2IH"), struct.Struct("<4sIQI"), struct.Struct("<4sQ2H2I4Q")

ZIP64 = 45
VERSIONS_NEEDED, VERSIONS_MADE_BY = (10, 20, ZIP64), (10, 20, 30, ZIP64, 63)
"""Versions of the format that NumPy has asked for, and that it, Info-ZIP and 7-Zip sign with."""


@dataclass(frozen=True, slots=True)
class Member:
    """One array in the archive: where its bytes lie and what the archive says of them.

    stamp: flags, method, time, date and CRC-32, which both headers of a member hold. needed: version of the format.
    maker: system, internal and external attributes.
    """

    name: str
    stamp: tuple[int, ...]
    packed: int
    size: int
    header: int
    needed: int
    maker: tuple[int, ...]
    start: int = 0

    @property
    def method(self) -> int:
        """STORED or DEFLATED."""
        return self.stamp[1]

    @property
    def crc(self) -> int:
        """CRC-32 of the inflated bytes."""
        return self.stamp[4]


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
    if len({member.maker for member in members}) > 1:
        archive.refuse("has members of several makers: it is damaged, or was put together by hand; save it with NumPy")
    _refuse_bomb(archive, members)
    return list(_tiled(archive, members, start))


def _directory(archive: Archive) -> tuple[int, int, int]:
    """Where the central directory begins and ends, and how many members it lists."""
    at = len(archive.bytes) - END.size
    end = archive.unpack(END, at, b"PK\x05\x06")
    if end is None:
        _refuse_end(archive)
    disk, first_disk, here, count, size, start, comment = end
    locator = archive.unpack(LOCATOR64, at - LOCATOR64.size, b"PK\x06\x07")
    if locator is not None:
        at -= END64.size + LOCATOR64.size
        end64 = archive.unpack(END64, at, b"PK\x06\x06")
        if not (end64 and _agree(end, locator, end64, at)):
            archive.refuse("has a damaged zip64 end record; download or copy it again")
        disk, first_disk, here, count, size, start = end64[3:]
    if count > MAX_MEMBERS or size > MAX_DIRECTORY:
        archive.refuse(f"lists {count} members in {size} bytes; no checkpoint has more than {MAX_MEMBERS}")
    if (disk, first_disk, here, comment, start + size) != (0, 0, count, 0, at):
        archive.refuse("has a damaged end record: its central directory is not where it says; download it again")
    return start, at, count


def _agree(end: tuple, locator: tuple, end64: tuple, at: int) -> bool:
    """Whether both end records of a large archive, and what lies between them, say the same as zipfile writes it."""
    *counts, size, start = end64[3:]
    short = (*(min(n, SHORT_SENTINEL) for n in counts), min(size, SENTINEL), min(start, SENTINEL))
    return (end[:6], locator, end64[:3]) == (short, (0, at, 1), (END64.size - 12, ZIP64, ZIP64))


def _refuse_end(archive: Archive) -> NoReturn:
    size = len(archive.bytes)
    last = archive.bytes.rfind(b"PK\x05\x06", max(0, size - 2**16 - END.size))
    behind = size - last - END.size
    if last >= 0 and behind > 0:
        archive.refuse(f"has {behind} bytes after the end of its zip archive, which npz files never have")
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
        _refuse_foreign(archive, name, fields)
        size, packed, header = _wide(archive, name, (fields[8], fields[7], fields[15]), extra)
        maker = (fields[0] >> 8, fields[13], fields[14])
        yield Member(name, fields[2:7], packed, size, header, fields[1], maker)
    if at != end:
        archive.refuse(f"has {end - at} bytes more in its central directory than its {count} members need")


def _name(archive: Archive, raw: bytes) -> str:
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        archive.refuse(f"has a name that is not UTF-8: {raw!r}", "?")
    if complaint := bad_member(name):
        archive.refuse(f"has a name that {complaint}", name)
    return name


def _refuse_flags(archive: Archive, name: str, *, flags: int, method: int) -> None:
    if flags & ENCRYPTED:
        archive.refuse("is encrypted", name)
    if flags & ~(UTF8 | DEFLATE_LEVEL):
        archive.refuse(f"has zip flags {flags:#06x}, which numpy.savez never sets; save it again to a file", name)
    if method not in (STORED, DEFLATED):
        archive.refuse(f"is packed by method {method}; only stored and deflated members are read", name)


def _refuse_foreign(archive: Archive, name: str, fields: tuple) -> None:
    """Comments, disks and versions that no NumPy writes."""
    made_by, needed, comment, disk = fields[0] & 0xFF, fields[1], fields[11], fields[12]
    if made_by not in VERSIONS_MADE_BY or needed not in VERSIONS_NEEDED or comment or disk:
        archive.refuse("has an entry in the directory such as numpy.savez never writes; save it again with NumPy", name)


def _wide(archive: Archive, name: str, values: tuple[int, ...], extra: bytes) -> tuple[int, ...]:
    """`values` with every 32-bit overflow mark replaced by its 64 bits from the zip64 extra field, in order."""
    wide = _zip64_numbers(archive, name, extra)
    if SENTINEL not in values and wide in ((), values[:2]):  # Python 3.6 to 3.10 say the sizes twice
        return values
    if len(wide) != values.count(SENTINEL):
        archive.refuse("lacks its zip64 sizes; the file is damaged", name)
    numbers = iter(wide)
    return tuple(next(numbers) if value == SENTINEL else value for value in values)


def _zip64_numbers(archive: Archive, name: str, extra: bytes) -> tuple[int, ...]:
    if not extra:
        return ()
    if len(extra) % 8 != 4 or struct.unpack_from("<HH", extra) != (1, len(extra) - 4):
        archive.refuse("has an extra field other than zip64 sizes, which numpy.savez never writes", name)
    return struct.unpack_from(f"<{len(extra) // 8}Q", extra, 4)


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
    found = (raw, fields[1:6], packed, size)
    expected = (member.name.encode(), member.stamp, member.packed, member.size)
    stored_differs = member.method == STORED and packed != size
    younger = fields[0] > member.needed or fields[0] not in VERSIONS_NEEDED
    if found != expected or stored_differs or younger:
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
