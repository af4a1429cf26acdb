"""A SavedModel that others published as a `.tar.gz`: from its address to a folder, for comparison.

The folder lies in the cache under the tarball's SHA-256. It appears by one rename when everything is unpacked, and is
compared with the tarball, byte for byte, before every use.
"""

import contextlib
import secrets
from pathlib import Path
from typing import Any

from vitport import assets
from vitport.assets import Asset, Expected, Tell, contents, tarball
from vitport.assets import cache as caches
from vitport.assets.partial import Partial, sweep
from vitport.errors import OutputError

ATTEMPTS = 3
"""At a name that others may take or spoil meanwhile."""


def fetch(address: str, sha256: str | None = None, **places: Any) -> Path:
    """The folder of the SavedModel at `address`: `.tar.gz` over https, gs or hf, or a local one.

    sha256: of the tarball, if known. places: `cache`, `offline`, `progress` and `tell` of `assets.fetch`.
    Raises AssetError for a tarball that can't be had or holds anything but files of one SavedModel, OutputError where
    the cache can't be written.
    """
    asset = assets.fetch([address], Expected(sha256, content=contents.saved_model), **places)
    return unpacked(asset, places.get("cache") or caches.default_cache(), places.get("tell") or _silence)


def add(address: str, sha256: str | None = None, **places: Any) -> tuple[Asset, Path]:
    """A checkpoint as it is, or a SavedModel as `fetch` gives it, by what is at the address; and the file itself."""
    asset = assets.fetch([address], Expected(sha256, content=contents.any_kind), **places)
    if not contents.is_tarball(asset.path):
        return asset, asset.path
    return asset, unpacked(asset, places.get("cache") or caches.default_cache(), places.get("tell") or _silence)


def _silence(message: str) -> None:
    """For those who don't listen."""


def unpacked(asset: Asset, cache: Path, tell: Tell) -> Path:
    """The folder of the SavedModel in a tarball that is here. Raises as `fetch` does."""
    name = asset.path.name if asset.path.parent == cache else f"{asset.sha256}-{caches.own_name(str(asset.path))}"
    folder = caches.beside(cache / name, caches.UNPACKED)
    tell(f"comparing {folder.name} with its tarball" if folder.exists() else f"unpacking {name}")
    if not tarball.matches(asset.path, folder):
        try:
            caches.make(cache)
            with caches.exclusive(folder, tell):
                _unpack(asset.path, folder)
        except OSError as error:
            raise OutputError(f"{folder} can't be written: {error.strerror or error}") from error
    return tarball.root(folder)


def _unpack(packed: Path, folder: Path) -> None:
    """Replaces what is at `folder`, unless another process has done so meanwhile."""
    if tarball.matches(packed, folder):
        return
    partial = Partial.claim(folder)
    try:
        caches.remove(partial.data)
        tarball.unpack(packed, partial.data)
        _exchange(partial, packed)
        sweep(folder)
    finally:
        partial.discard()


def _exchange(partial: Partial, packed: Path) -> None:
    """Gives the staged files their name; where locks do nothing, another process may do the same at any moment."""
    folder, failure = partial.target, OSError("another process changes it all the time")
    for _ in range(ATTEMPTS):
        try:
            partial.data.rename(folder)
        except OSError as error:
            failure = error
        if tarball.matches(packed, folder):
            return
        with contextlib.suppress(OSError):
            folder.rename(partial.folder / f"earlier-{secrets.token_hex(4)}")
    raise failure
