"""What is in the cache: listed, verified, cleared. Only what vitport itself puts there is looked at."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path

from vitport import assets
from vitport.assets import tarball
from vitport.assets.cache import (
    BAD,
    LOCK,
    NO_LOCKS,
    OURS,
    PARTIAL,
    RECORD,
    UNPACKED,
    beside,
    record,
    refuse_foreign,
    remove,
)
from vitport.assets.partial import OWNER, abandoned
from vitport.errors import AssetError, OutputError, UsageError
from vitport.manifest_errors import suggestion

SHORTEST_HASH = 6
"""Digits by which a file can be named."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing in the cache.

    kind: file, unpacked (the folder of a tarball), partial (a download not finished), bad (what failed verification).
    name: the file's own. url: an address that it was fetched from. when: of the last change, UTC, ISO 8601.
    """

    path: Path
    kind: str
    name: str
    bytes: int
    sha256: str | None
    url: str | None
    when: str


def listing(cache: Path) -> list[Kept]:
    """Everything in the cache, by name; empty for a folder that does not exist.

    Raises UsageError for a folder that is not a cache of vitport, OutputError for one that can't be read.
    """
    try:
        refuse_foreign(cache)
        paths = sorted(path for path in cache.iterdir() if OURS.fullmatch(path.name)) if cache.exists() else []
    except OSError as error:
        raise OutputError(f"the cache {cache} can't be read: {error.strerror}") from error
    urls = {found["sha256"]: found["url"] for path in paths if path.name.endswith(RECORD) and (found := record(path))}
    found = [_kept(path, urls) for path in paths if not path.name.endswith((RECORD, LOCK))]
    return sorted((kept for kept in found if kept), key=lambda kept: (kept.name, kept.path.name))


def verifiable(found: Sequence[Kept]) -> list[Kept]:
    """What can be compared with something: files, and folders whose tarball is in the cache (not a local one)."""
    return [kept for kept in found if kept.kind == "file" or (kept.kind == "unpacked" and _packed(kept).exists())]


def verify(found: Sequence[Kept], progress: assets.Progress) -> list[Kept]:
    """Hashes files, and compares unpacked folders with their tarballs; returns those that are damaged.

    Nothing is moved: a damaged file is put aside as `.bad` when it is next asked for, and replaced by a whole one.
    """
    total, before, damaged = sum(kept.bytes for kept in found), 0, []
    for kept in found:
        if not _whole(kept, lambda done, _, before=before: progress(before + done, total)):
            damaged.append(kept)
        before += kept.bytes
        progress(before, total)
    return damaged


def select(found: Sequence[Kept], wanted: Sequence[str]) -> list[Kept]:
    """Those of the names or hashes `wanted`, which may hold `*` or be the beginning of a hash; all for none.

    Raises UsageError for one that nothing has.
    """
    for word in wanted:
        if not any(_meant(kept, word) for kept in found):
            hint = suggestion(word, {kept.name for kept in found}) or "see what is there: vitport cache list"
            raise UsageError(f"nothing in the cache is called {word!r}, nor has that SHA-256; {hint}")
    return [kept for kept in found if not wanted or any(_meant(kept, word) for word in wanted)]


def clear(cache: Path, chosen: Sequence[Kept], everything: bool, keep: Callable[[Kept], None]) -> list[Kept]:
    """Removes them, with what is noted of them; returns those that are gone.

    A download of a living process is left alone, and so is a file whose lock another process holds; `keep` is told.
    everything: also the records and locks of files that are no more. Raises OutputError where it is not allowed.
    """
    gone = []
    for kept in chosen:
        if _removed(kept):
            gone.append(kept)
        else:
            keep(kept)
    hashes = {kept.sha256 for kept in gone if kept.kind == "file"}
    for path in cache.glob(f"*{RECORD}"):
        found = record(path)
        if OURS.fullmatch(path.name) and (everything or (found and found["sha256"] in hashes)):
            remove(path)
    for path in cache.glob(f"*{LOCK}") if everything else ():
        if OURS.fullmatch(path.name):
            with _alone(path.with_name(path.name.removesuffix(LOCK))):
                pass
    return gone


def _kept(path: Path, urls: dict[str, str]) -> Kept | None:
    """None for what another process has just renamed or removed."""
    digits, _, name = path.name.partition("-")
    kind = _kind(path)
    if kind == "partial":
        name = OWNER.sub("", name).removesuffix(PARTIAL)
    name = name.removesuffix(UNPACKED if kind == "unpacked" else BAD if kind == "bad" else "\0")
    sha256 = digits if len(digits) == 64 and kind in ("file", "unpacked") else None
    with contextlib.suppress(OSError):
        when = datetime.fromtimestamp(path.lstat().st_mtime, UTC).isoformat(timespec="seconds")
        return Kept(path, kind, name, _size(path), sha256, urls.get(digits), when)
    return None


def _kind(path: Path) -> str:
    kinds = {PARTIAL: "partial", BAD: "bad", UNPACKED: "unpacked"}
    return next((kind for suffix, kind in kinds.items() if path.name.endswith(suffix)), "file")


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(each.lstat().st_size for each in path.rglob("*") if not each.is_dir())


def _whole(kept: Kept, progress: assets.Progress) -> bool:
    try:
        if kept.kind == "file":
            return assets.digest(kept.path, progress) == kept.sha256
        return tarball.matches(_packed(kept), kept.path)
    except AssetError:
        return False


def _packed(kept: Kept) -> Path:
    return kept.path.with_name(kept.path.name.removesuffix(UNPACKED))


def _meant(kept: Kept, word: str) -> bool:
    digits = kept.path.name.partition("-")[0]
    by_hash = len(word) >= SHORTEST_HASH and len(digits) == 64 and digits.startswith(word)
    return by_hash or fnmatch(kept.name, word)


def _removed(kept: Kept) -> bool:
    if kept.kind == "partial":
        if not abandoned(kept.path):
            return False
        remove(kept.path)
        return True
    with _alone(kept.path) as alone:
        if alone:
            remove(kept.path)
    return alone


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody else holds the lock of a file; the lock itself goes with it."""
    import filelock

    lock = filelock.FileLock(beside(path, LOCK))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        yield False
        return
    except NO_LOCKS:
        yield True
        return
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            beside(path, LOCK).unlink()
        lock.release()
