"""The cache: a flat folder in which a file is named by its content.

CACHEDIR.TAG                  marks the folder as a cache, for backups and for `vitport cache clear`
<sha256>-<name>               a file, verified before it got this name and again at every use
<sha256>-<name>.unpacked/     the files of a tarball
<address>-<name>.json         what was at an address when it was last fetched; <address> is a hash of it
<either>.lock  .part  .bad    a download's lock, its bytes so far, what failed verification and is never used
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from vitport.appearing import appearing
from vitport.assets.addresses import resolve
from vitport.errors import OutputError, UsageError

TAG = "CACHEDIR.TAG"
TAGGED = b"Signature: 8a477f597d28d172789f06886806bc55\n# Downloads of vitport, each of which can be fetched again.\n"
"""The first line is that of https://bford.info/cachedir/, by which backups know what to leave out."""

UNPACKED, RECORD, LOCK, PARTIAL, BAD = ".unpacked", ".json", ".lock", ".part", ".bad"
SUFFIXES = (UNPACKED, RECORD, LOCK, PARTIAL, BAD)

OURS = re.compile(r"([0-9a-f]{64}|[0-9a-f]{32})-[A-Za-z0-9._-]+")
"""Every name that vitport gives in a cache."""

TEMPORARY = re.compile(rf"\.{OURS.pattern}\.[0-9a-f]{{16}}\.tmp")
"""What `appearing` leaves when it is killed, until the next one of the same name."""

LONGEST_NAME = 120
"""Characters of a file's own name in the cache: all of a published one, and with a SHA-256 before it and the name of a
partial download behind it within the 255 that file systems allow."""

LONGEST_RECORD = 10_000
"""Bytes; an address has at most 2000 characters in a manifest."""

NO_LOCKS = (NotImplementedError, OSError)  # finished: the first is filelock's own word for a file system without locks
"""What filelock raises on a file system that has no locks."""

LOCK_WAIT = 900.0
"""Seconds that one process waits for another's download of the same file, before it makes its own."""


def default_cache() -> Path:
    """VITPORT_CACHE, or the cache folder that the operating system gives each user."""
    import platformdirs

    return Path(os.environ.get("VITPORT_CACHE") or platformdirs.user_cache_dir("vitport"))


def make(cache: Path) -> None:
    """The folder, marked as a cache unless it holds things of others. Raises OSError where it can't be made."""
    cache.mkdir(parents=True, exist_ok=True)
    if _tag(cache) != TAGGED and is_ours(cache):
        (cache / TAG).write_bytes(TAGGED)


def is_ours(cache: Path) -> bool:
    """Whether a folder is a cache of vitport: marked as one, or with nothing in it that vitport would not name so."""
    tag = _tag(cache)
    if tag == TAGGED:
        return True
    others = (path.name for path in cache.iterdir() if path.name != TAG or not TAGGED.startswith(tag or b""))
    return all(OURS.fullmatch(name) or TEMPORARY.fullmatch(name) for name in others)


def _tag(cache: Path) -> bytes | None:
    """What the mark says, which a killed process may have cut short."""
    try:
        return (cache / TAG).read_bytes()
    except OSError:
        return None


def refuse_foreign(cache: Path) -> None:
    """Raises UsageError for a folder that is not a cache of vitport."""
    if cache.exists() and not (cache.is_dir() and is_ours(cache)):
        raise UsageError(f"{cache} is not a cache of vitport: it has no {TAG} of ours, and it holds other things")


def cache_path(url: str, sha256: str | None, cache: Path) -> Path:
    """Where a remote file is kept: named by its content if that is known, so that mirrors share it, else by address."""
    address = resolve(url)
    return cache / f"{sha256 or hashlib.sha256(address.encode()).hexdigest()[:32]}-{own_name(address)}"


def own_name(address: str) -> str:
    """The last part of an address or a path, as a harmless file name that has no meaning of its own in a cache."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", address.rpartition("/")[2])[-LONGEST_NAME:] or "_"
    return f"{name[1:]}_" if name.endswith(SUFFIXES) else name


def beside(path: Path, suffix: str) -> Path:
    """The lock, record, damaged or unpacked twin of a file in the cache."""
    return path.with_name(f"{path.name}{suffix}")


def remember(url: str, sha256: str, cache: Path) -> None:
    """Notes what is at an address. Raises OutputError where it can't."""
    with appearing(beside(cache_path(url, None, cache), RECORD)) as file:
        file.write(json.dumps({"url": url, "sha256": sha256}).encode())


def remembered(url: str, cache: Path) -> str | None:
    """The SHA-256 of what was at an address when it was last fetched; None if that is not known."""
    found = record(beside(cache_path(url, None, cache), RECORD))
    return found["sha256"] if found else None


def forget(url: str, cache: Path) -> None:
    """Makes the next fetch of an address ask the network; the file itself stays. Raises OutputError where it can't."""
    remove(beside(cache_path(url, None, cache), RECORD))


def record(path: Path) -> dict[str, str] | None:
    """`url` and `sha256` of a record; None where there is none or it is damaged."""
    if not os.path.isfile(path):
        return None
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(LONGEST_RECORD))
        whole = isinstance(found["url"], str) and re.fullmatch(r"[0-9a-f]{64}", found["sha256"])
        return found if whole else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


@contextlib.contextmanager
def exclusive(target: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock of a file, where locks work; an optimisation, so every failure of it is ignored."""
    import filelock

    lock = filelock.FileLock(beside(target, LOCK))
    with contextlib.suppress(filelock.Timeout, *NO_LOCKS):
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            tell(f"waiting for another process that downloads {target.name}")
            lock.acquire(timeout=LOCK_WAIT)
    try:
        yield
    finally:
        lock.release()


def remove(path: Path) -> None:
    """A file or a folder, if it is there. Raises OutputError where it can't be removed."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OutputError(f"{path} can't be removed: {error.strerror}") from error
