"""Brings a checkpoint file to this machine, whole and proven, or says what to do.

Requirements that shaped it:
- nothing enters the cache under its final name before it was verified: size, SHA-256, and without a SHA-256 the
  CRC-32 of every member; what is in the cache is verified again at every use;
- an interrupted download goes on where it stopped, also after `kill -9`, and never mixes two versions of a file;
- many processes may ask for one file: a lock makes them download once, but correctness comes from folders of their own
  and atomic renames, because locks silently do nothing on some network file systems;
- a server is not trusted: not its lengths, its redirects, its patience, nor its good intentions.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitport import npz
from vitport.archive import refuse_irregular, what_it_is_instead
from vitport.assets.addresses import is_remote, permit, resolve
from vitport.assets.partial import Partial, sweep
from vitport.errors import AssetError, OutputError

Progress = Callable[[int, int | None], None]
"""Told the bytes that are here, and how many there will be if known."""

Tell = Callable[[str], None]
"""Told why nothing happens for longer than a second: another attempt, another process."""

LOCK_WAIT = 900.0
"""Seconds that one process waits for another's download of the same file, before it makes its own."""

LONGEST_NAME = 120
"""Characters of a file's own name in the cache: all of a published one, and with a SHA-256 before it and the name of a
partial download behind it within the 255 that file systems allow."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A verified file: where it is, the address it has been asked for at, its SHA-256 and size."""

    path: Path
    url: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class _Expected:
    """What the manifest says of the file; None where it says nothing."""

    sha256: str | None
    size: int | None


@dataclass(frozen=True, slots=True)
class _Listener:
    """Who follows a download."""

    progress: Progress
    tell: Tell


def default_cache() -> Path:
    """VITPORT_CACHE, or the cache folder that the operating system gives each user."""
    import platformdirs

    return Path(os.environ.get("VITPORT_CACHE") or platformdirs.user_cache_dir("vitport"))


def fetch(
    urls: Sequence[str],
    *,
    sha256: str | None = None,
    size: int | None = None,
    cache: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    tell: Tell = lambda message: None,
) -> Asset:
    """The file at the first of `urls` that has it: `gs://`, `hf://` or `https://`; local paths are used in place.

    sha256, size: of the file, checked if given. cache: where downloads are kept. offline: use only what is here.
    Two spellings of one address, `gs://` and its https mirror, are tried once.
    Raises AssetError where no address gives the file expected, OutputError where the cache can't be written.
    """
    expected, cache = _Expected(sha256, size), cache or default_cache()
    listener = _Listener(progress or (lambda done, total: None), tell)
    failures: dict[str, str] = {}
    for url in urls:
        place = url
        try:
            if not is_remote(url):
                return _verified(Path(url), url, expected)
            place = resolve(url)
            if place not in failures:
                return _cached(url, expected, cache) or _download(url, expected, cache, offline, listener)
        except AssetError as error:
            failures[place] = str(error)
    if len(failures) == 1:
        raise AssetError(*failures.values())
    places = "".join(f"\n  {failure}" for failure in failures.values())
    raise AssetError(f"none of the {len(failures)} places has the file:{places}")


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal, read piece by piece. Raises AssetError where it can't be read."""
    refuse_irregular(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AssetError(f"{path} can't be read: {error.strerror}") from error


def cache_path(url: str, sha256: str | None, cache: Path) -> Path:
    """Where a remote file is kept: named by its content if that is known, so that mirrors share it, else by address."""
    address = resolve(url)
    name = re.sub(r"[^A-Za-z0-9._-]", "_", address.rpartition("/")[2])[-LONGEST_NAME:]
    return cache / f"{sha256 or hashlib.sha256(address.encode()).hexdigest()[:32]}-{name}"


def _verified(path: Path, name: str, expected: _Expected, found: str | None = None) -> Asset:
    """The asset at `path`, once it is what was expected; `name` stands for it in messages."""
    found = found or digest(path)
    asset = Asset(path, name, found, path.stat().st_size)
    with path.open("rb") as file:
        if what := what_it_is_instead(file.read(512)):
            raise AssetError(f"{name} is not an npz (zip) file but {what}")
    if expected.size not in (None, asset.bytes):
        raise AssetError(
            f"{name} has {asset.bytes} bytes and should have {expected.size}; it is truncated or another file"
        )
    if expected.sha256 not in (None, found):
        raise AssetError(
            f"{name} has the SHA-256 {found} and should have {expected.sha256}; it is damaged or another file"
        )
    if expected.sha256 is None:
        _verify_members(path, name)
    return asset


def _verify_members(path: Path, name: str) -> None:
    try:
        npz.verify(path)
    except AssetError as error:
        raise AssetError(str(error).replace(str(path), name)) from None


def _cached(url: str, expected: _Expected, cache: Path) -> Asset | None:
    """The file in the cache, if it is there and still what once was verified; else it is put aside as `.bad`."""
    path = cache_path(url, expected.sha256, cache)
    if not os.path.isfile(path):
        return None
    remembered = expected.sha256 or _remembered(path)
    try:
        asset = _verified(path, url, _Expected(remembered, expected.size))
        sweep(path)
        return asset
    except AssetError:
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{path.name}.bad"))
        return None


def _remembered(path: Path) -> str | None:
    """The SHA-256 of the first download, for files whose manifest gives none: the second one must be the same."""
    try:
        return path.with_name(f"{path.name}.sha256").read_text()[:64]
    except (OSError, ValueError):
        return None


def _download(url: str, expected: _Expected, cache: Path, offline: bool, listener: _Listener) -> Asset:
    permit(resolve(url))
    target = cache_path(url, expected.sha256, cache)
    if offline:
        raise AssetError(
            f"{url} is not in the cache {cache}, and this is an offline run; fetch it once with a network, "
            f"or save the file as {target}, or give its local path instead of the address"
        )
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _lock(target, listener.tell):
            return _cached(url, expected, cache) or _download_alone(url, expected, target, listener)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"the cache {cache} can't be written: {reason}; set VITPORT_CACHE to another folder"
        ) from error


def _download_alone(url: str, expected: _Expected, target: Path, listener: _Listener) -> Asset:
    from vitport.assets.download import download

    partial = Partial.claim(target)
    try:
        found = download(url, partial, expected.size, listener.progress, listener.tell)
    except OSError:
        partial.discard()
        raise
    except BaseException:
        partial.release()
        raise
    return _enter(url, expected, target, partial, found)


def _enter(url: str, expected: _Expected, target: Path, partial: Partial, found: str) -> Asset:
    """Verifies a complete download and gives it its final name; what fails is kept as `.bad`, never used."""
    try:
        asset = _verified(partial.data, url, expected, found)
        if expected.sha256 is None:
            _remember(target, found)
        partial.data.replace(target)
        npz.sync_folder(target.parent)
    except AssetError:
        partial.data.replace(target.with_name(f"{target.name}.bad"))
        raise
    finally:
        partial.discard()
    return Asset(target, asset.url, asset.sha256, asset.bytes)


def _remember(target: Path, found: str) -> None:
    with npz.appearing(target.with_name(f"{target.name}.sha256")) as file:
        file.write(found.encode())


@contextlib.contextmanager
def _lock(target: Path, tell: Tell) -> Iterator[None]:
    """Holds the lock of the file, where locks work; an optimisation, so every failure of it is ignored."""
    import filelock

    lock = filelock.FileLock(target.with_name(f"{target.name}.lock"))
    # NotImplementedError is filelock's word for a file system that has no locks.
    with contextlib.suppress(filelock.Timeout, NotImplementedError, OSError):
        try:
            lock.acquire(timeout=1)
        except filelock.Timeout:
            tell(f"waiting for another process that downloads {target.name}")
            lock.acquire(timeout=LOCK_WAIT)
    try:
        yield
    finally:
        lock.release()
