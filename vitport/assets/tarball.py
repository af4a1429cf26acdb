"""The `.tar.gz` of a SavedModel that somebody published: read forward once, believed in nothing, unpacked file by file.

Requirements that shaped it:
- only regular files become files; a link, a device or a hole in a file has no business in a SavedModel, and directories
  follow from the names of the files in them;
- what the tarball inflates to, how many members it has and how long their names are is bounded before memory or disk is
  spent on it; a header is never read further than its own bound (`tarfile` reads a whole one, whatever it declares);
- nothing is left over: every byte belongs to a member, and after the last there are only zeros.

`tarfile.extractall` is not used: its filters were passed by five published attacks in 2024 and 2025 (cpython#135034).
Of `tarfile` only the parser of one header block is. Format: POSIX.1-2017 pax, and the long names of GNU tar.
"""

import contextlib
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NoReturn

from vitport.archive import CHUNK, INFLATION, SMALL, refuse_irregular
from vitport.errors import AssetError
from vitport.member_names import bad_name

GZIP = b"\x1f\x8b"

BLOCK = tarfile.BLOCKSIZE

MAX_ENTRIES = 10_000
"""Members and extended headers. A SavedModel has about ten files, and one more for each asset."""

MAX_HEADER = 64 * 1024
"""Bytes of an extended header; those of Python and of GNU tar are below 1000."""

MAX_PATH, MAX_PART, MAX_DEPTH = 512, 200, 20
"""Bytes of a member's name and of one segment of it, well within Linux' 4096 and 255; segments."""

MAX_BYTES = 8 * 2**30
"""Of all files together; the largest Vision Transformer published as a SavedModel, L/16, has 1.2e9."""

SAVED_MODEL = "saved_model.pb"

REFUSED: dict[bytes, str] = {
    tarfile.SYMTYPE: "is a symbolic link",
    tarfile.LNKTYPE: "is a hard link",
    tarfile.CHRTYPE: "is a device",
    tarfile.BLKTYPE: "is a device",
    tarfile.FIFOTYPE: "is a pipe",
    tarfile.GNUTYPE_SPARSE: "is a sparse file",
    tarfile.GNUTYPE_LONGLINK: "is a link with a long name",
}

FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME)


def verify(tarball: Path) -> None:
    """Reads everything and writes nothing.

    Raises AssetError for a file that is no tarball of one SavedModel, is damaged, or holds what none needs.
    """
    for _, pieces in members(tarball):
        for _ in pieces:
            pass


def unpack(tarball: Path, folder: Path) -> None:
    """Writes every member below `folder`, which must not exist; modes follow the umask.

    Raises AssetError as `verify` does, OSError where the disk is full; the folder is then the caller's to remove.
    """
    folder.mkdir()
    for name, pieces in members(tarball):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.writelines(pieces)


def matches(tarball: Path, folder: Path) -> bool:
    """Whether `folder` holds the members of the tarball, byte for byte, and nothing else. Raises AssetError."""
    if folder.is_symlink():
        return False
    names = set()
    for name, pieces in members(tarball):
        names.add(name)
        if not _same(folder / name, pieces):
            return False
    return names == _files_below(folder)


def root(folder: Path) -> Path:
    """The folder of the SavedModel among unpacked files."""
    return next(folder.rglob(SAVED_MODEL)).parent


def members(tarball: Path) -> Iterator[tuple[str, Iterator[memoryview]]]:
    """Name and content of every file, in order. Raises AssetError where the next can't be believed."""
    refuse_irregular(tarball)
    with tarball.open("rb") as file:
        reader, names = _Reader(tarball, file), _Names(tarball)
        for name, size in _files(reader):
            names.add(name)
            yield name, (content := reader.pieces(size))
            for _ in content:  # what the caller left
                pass
            reader.take(-size % BLOCK)
        reader.finish()
    names.finish()


def _files(reader: "_Reader") -> Iterator[tuple[str, int]]:
    """Name and size of each file; its content is next in the reader while the caller holds them."""
    long_name = None
    for _ in range(MAX_ENTRIES):
        header = _header(reader)
        if header is None:
            return
        if header.type in EXTENDED:
            long_name = _extended(reader, header) or long_name
            continue
        name = _name(reader, long_name or header.name)
        if header.type not in (*FILES, tarfile.DIRTYPE):
            reader.refuse(f"{REFUSED.get(header.type, 'is of a kind of its own')}; only files are unpacked", name)
        if header.type in FILES:
            if not name:
                reader.refuse("has no name", header.name)
            yield name, header.size
        elif header.size:
            reader.refuse("is a folder with content", name)
        long_name = None
    reader.refuse(f"has more than {MAX_ENTRIES} members")


def _header(reader: "_Reader") -> tarfile.TarInfo | None:
    """The next header; None for the zeros that end a tar."""
    block = reader.take(BLOCK)
    if not any(block):
        return None
    try:
        header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except UnicodeDecodeError:
        reader.refuse("has a name that is not UTF-8")
    except (tarfile.HeaderError, ValueError) as error:
        reader.refuse(f"is damaged where the header of a member should be: {error}")
    if not 0 <= header.size <= reader.limit:
        reader.refuse(f"declares {header.size} bytes; at most {reader.limit} are unpacked", header.name)
    return header


def _extended(reader: "_Reader", header: tarfile.TarInfo) -> str | None:
    """The name that an extended header gives the next member, if it gives one."""
    if header.size > MAX_HEADER:
        reader.refuse(f"has an extended header of {header.size} bytes; at most {MAX_HEADER} are read")
    data = reader.take(header.size)
    reader.take(-header.size % BLOCK)
    try:
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return data.rstrip(b"\0").decode()
        fields = dict(_pax(data))
    except ValueError:
        reader.refuse("has a damaged extended header")
    strange = [key for key in fields if key in ("size", "linkpath", "hdrcharset") or key.startswith("GNU.sparse")]
    if header.type == tarfile.XGLTYPE and "path" in fields:
        strange.append("one path for all")
    if strange:
        reader.refuse(f"has an extended header of {', '.join(strange)[:100]}, which no SavedModel needs")
    return fields.get("path")


def _pax(data: bytes) -> Iterator[tuple[str, str]]:
    """The records `<length> <key>=<value>\\n` of a pax header. Raises ValueError for anything else."""
    while data:
        digits, space, _ = data[:8].partition(b" ")
        length = int(digits) if digits.isdigit() and space else 0
        record, data = data[len(digits) + 1 : length], data[length:]
        key, equals, value = record.partition(b"=")
        if length <= len(digits) + 1 or not equals or not record.endswith(b"\n"):
            raise ValueError("a damaged pax record")
        yield key.decode(), value[:-1].decode(errors="strict" if key == b"path" else "replace")


def _name(reader: "_Reader", raw: str) -> str:
    """A member's name without `./` before it and `/` behind it; empty for the root."""
    name = raw.removeprefix("./").removesuffix("/")
    if name in ("", "."):
        return ""
    if complaint := bad_name(name):
        reader.refuse(f"has a name that {complaint}", raw)
    parts = name.encode().split(b"/")
    if len(name.encode()) > MAX_PATH or len(parts) > MAX_DEPTH or max(map(len, parts)) > MAX_PART:
        reader.refuse(f"has a name longer than {MAX_PATH} bytes, {MAX_PART} a segment or {MAX_DEPTH} segments", raw)
    return name


class _Names:
    """The names so far: none twice, none both a file and a folder, one SavedModel among them."""

    def __init__(self, tarball: Path) -> None:
        self._tarball, self._files, self._folders = tarball, set[str](), set[str]()

    def add(self, name: str) -> None:
        parts = name.split("/")
        folders = {"/".join(parts[:count]) for count in range(1, len(parts))}
        if name in self._files | self._folders or folders & self._files:
            _refuse(self._tarball, "is there twice, or is a file and a folder", name)
        self._files.add(name)
        self._folders |= folders

    def finish(self) -> None:
        count = sum(name.rpartition("/")[2] == SAVED_MODEL for name in self._files)
        if count != 1:
            _refuse(self._tarball, f"holds {count or 'no'} {SAVED_MODEL}; it should be the tarball of one SavedModel")


class _Reader:
    """The inflated tarball, a megabyte at a time."""

    def __init__(self, tarball: Path, file: BinaryIO) -> None:
        self.limit = min(max(SMALL, INFLATION * os.fstat(file.fileno()).st_size), MAX_BYTES)
        self._tarball, self._held = tarball, memoryview(b"")
        self._source = self._inflated(file)

    def refuse(self, complaint: str, member: str | None = None) -> NoReturn:
        _refuse(self._tarball, complaint, member)

    def pieces(self, count: int) -> Iterator[memoryview]:
        """The next `count` bytes."""
        while count:
            self._held = self._held or next(self._source, memoryview(b""))
            if not self._held:
                self.refuse("is truncated: it ends inside a member; download it again")
            piece, self._held = self._held[:count], self._held[count:]
            count -= len(piece)
            yield piece

    def take(self, count: int) -> bytes:
        """The next `count` bytes, few of them, at once."""
        return b"".join(self.pieces(count))

    def finish(self) -> None:
        """Raises AssetError unless only zeros are left."""
        for piece in chain([self._held], self._source):
            if bytes(piece).strip(b"\0"):
                self.refuse("goes on behind the blocks that end a tar")

    def _inflated(self, file: BinaryIO) -> Iterator[memoryview]:
        stream, left = zlib.decompressobj(zlib.MAX_WBITS | 16), self.limit
        try:
            while not stream.eof and (packed := file.read(CHUNK)):
                piece = b"."
                while (piece or packed) and not stream.eof:
                    piece, packed = stream.decompress(packed, CHUNK), stream.unconsumed_tail
                    left -= len(piece)
                    if left < 0:
                        self.refuse(f"inflates to more than {self.limit} bytes; weights don't compress like this")
                    if piece:
                        yield memoryview(piece)
        except zlib.error as error:
            self.refuse(f"can't be inflated: {error}; download it again")
        if not stream.eof:
            self.refuse("is truncated: its gzip stream has no end; download it again")
        if stream.unused_data or file.read(1):
            self.refuse("goes on behind the end of its gzip stream")


def _refuse(tarball: Path, complaint: str, member: str | None = None) -> NoReturn:
    where = f"{tarball}: member {member[:200]!r}" if member is not None else f"{tarball}"
    raise AssetError(f"{where} {complaint}")


def _same(path: Path, pieces: Iterator[memoryview]) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        return all(file.read(len(piece)) == piece for piece in pieces) and not file.read(1)
    return False


def _files_below(folder: Path) -> set[str]:
    """Whatever is no folder, links too; empty where another process takes the folder away."""
    try:
        paths = [path for path in folder.rglob("*") if not stat.S_ISDIR(path.lstat().st_mode)]
    except OSError:
        return set()
    return {path.relative_to(folder).as_posix() for path in paths}
