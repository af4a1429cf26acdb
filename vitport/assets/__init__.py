"""Brings a file to this machine, whole and proven, or says what to do.

Requirements that shaped it:
- nothing enters the cache under its final name before it was verified: size, SHA-256, and without a SHA-256 every byte
  by what its format knows of it; what is in the cache is verified again at every use;
- an interrupted download goes on where it stopped, also after `kill -9`, and never mixes two versions of a file;
- many processes may ask for one file: a lock makes them download once, but correctness comes from folders of their own
  and atomic renames, because locks silently do nothing on some network file systems;
- a server is not trusted: not its lengths, its redirects, its patience, nor its good intentions.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vitport.appearing import sync_folder
from vitport.archive import CHUNK, refuse_irregular
from vitport.assets import cache as caches
from vitport.assets import contents
from vitport.assets.addresses import is_remote, permit, resolve
from vitport.assets.cache import cache_path, default_cache
from vitport.assets.partial import Partial, sweep
from vitport.errors import AssetError, Mismatch, OutputError

__all__ = ["ANY", "Asset", "Expected", "Progress", "Tell", "cache_path", "default_cache", "digest", "fetch"]

Progress = Callable[[int, int | None], None]
"""Told the bytes that are here, and how many there will be if known."""

Tell = Callable[[str], None]
"""Told why nothing happens for longer than a second: another attempt, another process, a large file to hash."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A verified file: where it is, the address it has been asked for at, its SHA-256 and size."""

    path: Path
    url: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Expected:
    """What is known of a file before it is here; None is unknown. content: what kind it must be."""

    sha256: str | None = None
    size: int | None = None
    content: contents.Check = contents.checkpoint


ANY = Expected()


@dataclass(frozen=True, slots=True)
class _Listener:
    """Who follows a download."""

    progress: Progress
    tell: Tell


def fetch(
    urls: Sequence[str],
    expected: Expected = ANY,
    *,
    cache: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
    tell: Tell = lambda message: None,
) -> Asset:
    """The file at the first of `urls` that has it: `gs://`, `hf://` or `https://`; local paths are used in place.

    cache: where downloads are kept. offline: use only what is here.
    Two spellings of one address, `gs://` and its https mirror, are tried once.
    Raises AssetError where no address gives the file expected, of which Mismatch where one gives another file;
    OutputError where the cache can't be written.
    """
    cache = cache or default_cache()
    listener = _Listener(progress or (lambda done, total: None), tell)
    failures: dict[str, AssetError] = {}
    for url in urls:
        place = url
        try:
            if not is_remote(url):
                return _verified(Path(url), url, expected, digest(Path(url), _slowly(tell, url)))
            place = resolve(url)
            if place not in failures:
                return _cached(url, expected, cache, tell) or _download(url, expected, cache, offline, listener)
        except AssetError as error:
            failures[place] = error
    raise _joined(list(failures.values()))


def digest(path: Path, progress: Progress = lambda done, total: None) -> str:
    """SHA-256 of a file in hexadecimal, read piece by piece. Raises AssetError where it can't be read."""
    refuse_irregular(path)
    hasher, done = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                progress(done := done + len(chunk), total)
    except OSError as error:
        raise AssetError(f"{path} can't be read: {error.strerror}") from error
    return hasher.hexdigest()


def _slowly(tell: Tell, name: str) -> Progress:
    """Progress that says once what it is about, when it takes more than a second."""
    began, told = time.monotonic(), []

    def progress(done: int, total: int | None) -> None:
        if not told and time.monotonic() - began > 1:
            told.append(tell(f"comparing the SHA-256 of {name}"))

    return progress


def _joined(failures: list[AssetError]) -> AssetError:
    """One error for all places; a Mismatch if any is."""
    if len(failures) == 1:
        return failures[0]
    kind = Mismatch if any(isinstance(failure, Mismatch) for failure in failures) else AssetError
    places = "".join(f"\n  {failure}" for failure in failures)
    return kind(f"none of the {len(failures)} places has the file:{places}")


def _verified(path: Path, name: str, expected: Expected, found: str) -> Asset:
    """The asset at `path` with the SHA-256 `found`, once it is what was expected; `name` stands for it in messages."""
    asset = Asset(path, name, found, path.stat().st_size)
    expected.content(path, name, False)
    if expected.size not in (None, asset.bytes):
        raise Mismatch(
            f"{name} has {asset.bytes} bytes and should have {expected.size}; it is truncated or another file"
        )
    if expected.sha256 not in (None, found):
        raise Mismatch(
            f"{name} has the SHA-256 {found} and should have {expected.sha256}; it is damaged or another file"
        )
    if expected.sha256 is None:
        expected.content(path, name, True)
    return asset


def _cached(url: str, expected: Expected, cache: Path, tell: Tell) -> Asset | None:
    """The file in the cache, if it is there and still what once was verified.

    A file that is whole and another than expected is left as it is: it is the expectation that may be wrong.
    """
    sha256 = expected.sha256 or caches.remembered(url, cache)
    path = cache_path(url, sha256, cache)
    if sha256 is None or not os.path.isfile(path) or digest(path, _slowly(tell, path.name)) != sha256:
        return None
    if expected.sha256 is None and expected.size not in (None, path.stat().st_size):
        return None
    asset = _verified(path, url, replace(expected, sha256=sha256), sha256)
    for target in (path, cache_path(url, None, cache)):
        sweep(target)
    return asset


def _download(url: str, expected: Expected, cache: Path, offline: bool, listener: _Listener) -> Asset:
    permit(resolve(url))
    target = cache_path(url, expected.sha256, cache)
    if offline:
        raise _offline(url, expected, cache)
    try:
        caches.make(cache)
        with caches.exclusive(target, listener.tell):
            return _cached(url, expected, cache, listener.tell) or _download_alone(url, expected, target, listener)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(
            f"the cache {cache} can't be written: {reason}; set VITPORT_CACHE to another folder"
        ) from error


def _offline(url: str, expected: Expected, cache: Path) -> AssetError:
    path = cache_path(url, expected.sha256 or caches.remembered(url, cache), cache)
    state = f"is damaged in the cache ({path})" if os.path.isfile(path) else f"is not in the cache {cache}"
    by_hand = f"save the file as {path}, or " if expected.sha256 else ""
    return AssetError(
        f"{url} {state}, and this is an offline run; fetch it once with a network, "
        f"or {by_hand}give its local path instead of the address"
    )


def _download_alone(url: str, expected: Expected, target: Path, listener: _Listener) -> Asset:
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
    return _enter(url, expected, partial, found)


def _enter(url: str, expected: Expected, partial: Partial, found: str) -> Asset:
    """Verifies a complete download and gives it its final name; what fails is kept as `.bad`, never used."""
    cache = partial.target.parent
    final = cache_path(url, found, cache)
    try:
        asset = _verified(partial.data, url, expected, found)
        _put_aside(final, found)
        caches.remember(url, found, cache)
        partial.data.replace(final)
        sync_folder(cache)
        sweep(partial.target)
    except AssetError:
        partial.data.replace(caches.beside(partial.target, caches.BAD))
        raise
    finally:
        partial.discard()
    return Asset(final, asset.url, asset.sha256, asset.bytes)


def _put_aside(path: Path, sha256: str) -> None:
    """Keeps a file that was damaged in the cache, for those who want to know how."""
    if os.path.isfile(path) and digest(path) != sha256:
        path.replace(caches.beside(path, caches.BAD))
