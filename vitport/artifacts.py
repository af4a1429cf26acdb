"""The output folder: `artifacts.json`, where artifacts wait to be proven, and how they take their final names.

One folder an artifact, `<variant>/<format>/`. A run works in `.staging/` inside the output folder, under a lock on the
folder itself; proven artifacts are exchanged with the earlier ones by one rename each, and the list is replaced last.
Whatever a killed run left in `.staging/` the next one removes.
"""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from vitport.architectures import VARIANTS
from vitport.errors import INTERRUPTS, AssetError, OutputError
from vitport.formats import FORMATS

SCHEMA = 1
"""Version of `artifacts.json`; see docs/artifacts.md. 1: first."""

LISTING, STAGING = "artifacts.json", ".staging"

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""From <fcntl.h> and <linux/fs.h>."""


def files(folder: Path) -> list[dict]:
    """Every file below `folder`: its relative path, size and SHA-256, sorted by path."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [
        {"path": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in paths
    ]


def digest(listed: list[dict]) -> str:
    """SHA-256 of an artifact: of its file, or of the lines `<sha256>  <path>` of its files (as `sha256sum` prints)."""
    if len(listed) == 1:
        return listed[0]["sha256"]
    lines = "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in listed)
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256(path: Path) -> str:
    """Of one file, streaming."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(out: Path) -> dict | None:
    """The listing of an output folder, None where there is none. Raises AssetError for one that is not ours."""
    path = out / LISTING
    if not path.exists():
        return None
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        if listing["schema"] != SCHEMA:
            raise AssetError(f"{path} has schema {listing['schema']}; this vitport reads {SCHEMA}")
        for entry in listing["artifacts"]:
            if entry["variant"] not in VARIANTS or entry["format"] not in FORMATS:
                raise ValueError(f"it has an artifact {entry['format']!r} of variant {entry['variant']!r}")
        return listing
    except (ValueError, KeyError, TypeError) as error:
        raise AssetError(f"{path} is no list of artifacts ({error}); move it away, or choose another --out") from error


@contextlib.contextmanager
def staging(out: Path, wait: Callable[[], None]) -> Iterator[Path]:
    """An empty folder inside `out`, for one run at a time; gone afterwards, and so is an `out` made in vain.

    wait: called once if another run holds the folder. Raises OutputError where nothing can be written, AssetError where
    `out` has a list that is not ours.
    """
    try:
        made = _make(out)
        with _locked(out, wait):
            read(out)
            stage = out / STAGING
            shutil.rmtree(stage, ignore_errors=True)
            stage.mkdir()
            try:
                yield stage
            finally:
                shutil.rmtree(stage, ignore_errors=True)
                _remove_empty(made)
    except OSError as error:
        raise OutputError(f"{error.filename or out}: {error.strerror or error}") from error


def publish(stage: Path, out: Path, listing: dict) -> None:
    """Gives the staged artifacts of `listing` their final names and writes the list.

    Artifacts of the same checkpoint that this run did not make stay; those of another checkpoint go.
    """
    entries = {_folder(entry): entry for entry in listing["artifacts"]}
    earlier = read(out) or {"artifacts": []}
    others = [entry for entry in earlier["artifacts"] if _folder(entry) not in entries]
    kept = [entry for entry in others if _intact(out, entry)] if _same_checkpoint(earlier, listing) else []
    for folder in entries:
        _sync(stage / folder)
    with _undisturbed(), contextlib.ExitStack() as undo:
        for folder in entries:
            _exchange(stage / folder, out / folder)
            undo.callback(_take_back, stage / folder, out / folder)
        write(out, _merged(listing, earlier, kept))
        undo.pop_all()
    for entry in () if _same_checkpoint(earlier, listing) else others:
        shutil.rmtree(out / _folder(entry), ignore_errors=True)
        _remove_empty([out / entry["variant"]])


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Holds signals back for the few renames that belong together; the first that came is raised again afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = {each: signal.getsignal(each) for each in INTERRUPTS}
    ours = [each for each, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for each in ours:
        signal.signal(each, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, before[each])
    for number in held[:1]:
        signal.raise_signal(number)


def _intact(out: Path, entry: dict) -> bool:
    """Whether an artifact is still what the list says: it may have been deleted, edited, exchanged by a killed run."""
    return digest(files(out / _folder(entry))) == entry["sha256"]


def _merged(listing: dict, earlier: dict, kept: list[dict]) -> dict:
    """`listing` with the entries that stay, and what the earlier list says of them."""
    facts = {key: {**(earlier.get(key, {}) if kept else {}), **listing[key]} for key in ("versions", "reference")}
    return {**listing, **facts, "artifacts": sorted([*listing["artifacts"], *kept], key=_order)}


def write(out: Path, listing: dict) -> None:
    """Replaces `artifacts.json` in one step."""
    partial = out / STAGING / LISTING
    text = json.dumps(listing, indent=2, ensure_ascii=False, allow_nan=False)
    partial.write_text(f"{text}\n", encoding="utf-8")
    _sync(partial)
    partial.replace(out / LISTING)


def _same_checkpoint(earlier: dict, listing: dict) -> bool:
    """Whether both lists are of the same weights at the same resolution."""
    return (
        all(earlier.get(key) == listing[key] for key in ("name", "resolution"))
        and earlier.get("asset", {}).get("sha256") == listing["asset"]["sha256"]
    )


def _folder(entry: dict) -> str:
    return f"{entry['variant']}/{entry['format']}"


def _order(entry: dict) -> tuple[str, str]:
    return entry["variant"], entry["format"]


def _make(out: Path) -> list[Path]:
    """Makes `out`; returns the folders that were not there before, innermost first."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    out.mkdir(parents=True, exist_ok=True)
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def _locked(out: Path, wait: Callable[[], None]) -> Iterator[None]:
    """An exclusive lock on the folder itself, which leaves no file behind and ends with the process."""
    while True:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
        try:
            _lock(descriptor, wait)
            if _still_there(descriptor, out):
                yield
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int, wait: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        wait()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _still_there(descriptor: int, out: Path) -> bool:
    """Whether the folder that was locked is still the one of that name: the run before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), out.stat())
    except FileNotFoundError:
        return False


def _exchange(staged: Path, final: Path) -> None:
    """`staged` becomes `final` in one step; what was there before becomes `staged`."""
    final.parent.mkdir(parents=True, exist_ok=True)
    if not final.exists():
        staged.rename(final)
        return
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 and renameat2(AT_FDCWD, bytes(staged), AT_FDCWD, bytes(final), RENAME_EXCHANGE) == 0:
        return
    if renameat2 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(final))
    aside = staged.with_name(f"{staged.name}.old")
    final.rename(aside)
    staged.rename(final)
    aside.rename(staged)


def _take_back(staged: Path, final: Path) -> None:
    """Undoes `_exchange`."""
    if staged.exists():
        _exchange(staged, final)
    else:
        final.rename(staged)
        _remove_empty([final.parent])


def _sync(path: Path) -> None:
    """Flushes a file, or every file and folder below one, to the disk, before a rename makes it visible."""
    for each in [path, *path.rglob("*")]:
        descriptor = os.open(each, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
