"""`vitport lock`: records which file each manifest means where it does not say so itself; `convert` is held to that.

Trust on first use: the first download of a file without a known SHA-256 is recorded in `vitport.lock` beside the
manifest, and every later one must be the same. A local file is recorded only where `vitport lock` is asked to, since
one's own file may change; an entry that is there holds for every place of the file, local or not.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitport import assets, lockfile, manifest
from vitport.assets import Asset, Expected, cache
from vitport.assets.addresses import is_remote
from vitport.errors import AssetError, Mismatch, OutputError, UsageError
from vitport.lockfile import Entry
from vitport.manifest import Manifest

FOLDER = Path("manifests")
"""Of which manifests, where none is named."""

PACKAGE = Path(__file__).parent
"""Written by whoever installs vitport, and by nobody else."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one manifest.

    state: recorded, kept, updated, dropped; missing, differs, needless; manifest, where it has a SHA-256 of its own.
    problem: what is not in order, in words.
    """

    name: str
    state: str
    bytes: int | None = None
    sha256: str | None = None
    problem: str | None = None


def fetch(port: Manifest, tell: Callable[[str], None], **places: Any) -> Asset:
    """The manifest's file, held to its SHA-256 or to the lock file's; a first download is recorded there.

    places: `cache`, `offline` and `progress` of `assets.fetch`. Raises as that does, and ManifestError for a lock file
    that is not valid.
    """
    entry = None if port.asset.sha256 else lockfile.read(port.path.parent).get(port.name)
    known = Expected(port.asset.sha256 or (entry and entry.sha256), port.asset.bytes or (entry and entry.bytes))
    try:
        asset = assets.fetch(port.asset.urls, known, tell=tell, **places)
    except Mismatch as error:
        if entry is None:
            raise
        raise Mismatch(f"{error}{_remedy(port)}") from None
    if known.sha256 is None and is_remote(asset.url):
        _record_first(port, asset, tell)
    return asset


def checkpoint(
    port: Manifest,
    named: str | None,
    watch: Callable[[str, str], None],
    progress: assets.Progress | None,
    folder: Path | None,
    offline: bool,
) -> Asset:
    """The verified checkpoint of a run: the file that the command line names, or the manifest's.

    watch: told (part, what it is doing). progress: told (bytes, bytes in all). folder: the cache, None for the usual.
    """
    places = {"cache": folder or assets.default_cache(), "offline": offline, "progress": progress}

    def tell(text: str) -> None:
        watch("asset", text)

    return assets.fetch((named,), tell=tell, **places) if named else fetch(port, tell, **places)


def chosen(arguments: Sequence[str]) -> tuple[list[Manifest], list[Path]]:
    """The manifests that the command line names, by file, name or folder, and those folders.

    Raises UsageError where there are none, ManifestError for one that is not valid.
    """
    if not arguments and not FOLDER.is_dir():
        raise UsageError(f"there is no folder {FOLDER} here; name manifests, or a folder of them")
    arguments = arguments or [str(FOLDER)]
    folders = [Path(each) for each in arguments if os.path.isdir(each)]
    paths = [path for folder in folders for path in manifest.named([folder]).values()]
    paths += [manifest.find(each) for each in arguments if not os.path.isdir(each)]
    if not paths:
        raise UsageError(f"there are no manifests in {', '.join(map(str, folders))}")
    return [manifest.read(path) for path in dict.fromkeys(paths)], folders


def record(ports: Iterable[Manifest], folders: Iterable[Path], update: bool, **places: Any) -> list[Row]:
    """Fetches every file that is not locked yet, or all of them anew to `update`, and records each as it comes.

    Entries that no manifest of `folders` needs are dropped. Raises AssetError with every file that could not be
    recorded; the others are.
    """
    rows, failures = [], []
    for port in ports:
        try:
            rows.append(_recorded(port, update, **places))
        except AssetError as error:
            failures.append(f"{port.name}: {error}")
    for folder in folders:
        with _changing(folder) as entries:
            for name in _needless(folder, entries):
                del entries[name]
                rows.append(Row(name, "dropped"))
    if failures:
        raise AssetError("\n".join(failures))
    return rows


def check(ports: Iterable[Manifest], folders: Iterable[Path]) -> list[Row]:
    """Compares manifests and lock files with each other and opens no address; what is not in order has a `problem`."""
    rows = [_checked(port, lockfile.read(port.path.parent).get(port.name)) for port in ports]
    for folder in folders:
        needless = _needless(folder, lockfile.read(folder))
        rows += [Row(name, "needless", problem="no manifest needs this entry") for name in needless]
    return rows


def _record_first(port: Manifest, asset: Asset, tell: Callable[[str], None]) -> None:
    """Records what `convert` has downloaded, or says why it can't. Raises Mismatch if another process was first."""
    try:
        held = _enter(port, asset)
    except (OutputError, UsageError) as error:
        tell(f"note: {error}; its SHA-256, {asset.sha256}, is not recorded")
        return
    if held.sha256 != asset.sha256:
        raise Mismatch(
            f"{asset.url} has the SHA-256 {asset.sha256} and should have {held.sha256}, which another process has "
            f"recorded meanwhile{_remedy(port)}"
        )


def _recorded(port: Manifest, update: bool, **places: Any) -> Row:
    entry = lockfile.read(port.path.parent).get(port.name)
    row = _checked(port, entry)
    if row.state == "manifest" or (row.state == "kept" and not update):
        return row
    asset = _fetched_anew(port, **places) if entry else _fetched(port, **places)
    if entry and not update and entry.sha256 != asset.sha256:
        raise Mismatch(
            f"{asset.url} has the SHA-256 {asset.sha256} and should have {entry.sha256}: the manifest has "
            f"changed since{_remedy(port)}"
        )
    held = _enter(port, asset, replace=entry is not None)
    return Row(port.name, "updated" if entry else "recorded", held.bytes, held.sha256)


def _fetched(port: Manifest, **places: Any) -> Asset:
    return assets.fetch(port.asset.urls, Expected(size=port.asset.bytes), **places)


def _fetched_anew(port: Manifest, **places: Any) -> Asset:
    """What is at the addresses now, not what was there once and lies in the cache."""
    for url in port.asset.urls:
        if is_remote(url) and not places.get("offline"):
            cache.forget(url, places.get("cache") or cache.default_cache())
    return _fetched(port, **places)


def _enter(port: Manifest, asset: Asset, replace: bool = False) -> Entry:
    """Writes the entry of a file, unless there is one already; returns the one that is there then."""
    entry = Entry(urls=_urls(port), bytes=asset.bytes, sha256=asset.sha256)
    with _changing(port.path.parent) as entries:
        if replace:
            entries[port.name] = entry
        return entries.setdefault(port.name, entry)


def _changing(folder: Path) -> AbstractContextManager[dict[str, Entry]]:
    if folder.resolve().is_relative_to(PACKAGE):
        raise UsageError(f"{folder} belongs to the installed package; copy the manifest to a folder of your own")
    return lockfile.changing(folder)


def _checked(port: Manifest, entry: Entry | None) -> Row:
    if port.asset.sha256:
        return Row(port.name, "manifest", port.asset.bytes, port.asset.sha256)
    if entry is None:
        return Row(port.name, "missing", problem="has no SHA-256, neither in the manifest nor in the lock file")
    size = port.asset.bytes or entry.bytes
    problem = (
        "has other addresses than the lock file"
        if entry.urls != _urls(port)
        else f"has {size} bytes, by the lock file {entry.bytes}"
        if entry.bytes != size
        else None
    )
    return Row(port.name, "differs" if problem else "kept", entry.bytes, entry.sha256, problem)


def _needless(folder: Path, entries: Iterable[str]) -> list[str]:
    """Names with an entry in the lock file of `folder` though no manifest there lacks a SHA-256."""
    paths = manifest.named([folder])
    return [name for name in entries if name not in paths or manifest.read(paths[name]).asset.sha256]


def _urls(port: Manifest) -> tuple[str, ...]:
    """Addresses as they are; paths as seen from the manifest."""
    folder = port.path.parent
    return tuple(url if is_remote(url) else os.path.relpath(url, folder) for url in port.asset.urls)


def _remedy(port: Manifest) -> str:
    path = port.path.parent / lockfile.NAME
    return f"\n{path} holds to the first download; if the file changed on purpose: vitport lock --update {port.path}"
