"""The output folder while a run works in it: a lock, a place to prove artifacts in, and how they get their names.

A run works in `.staging/` inside the output folder, under a lock on the folder itself. No file system changes two names
in one step, so before the first artifact moves, the list says which folders will, what each holds and what it will
hold; after the last one it says what is there. A run killed in between leaves folders that are each one or the other,
whole and listed, and the next run finishes it: what was proven is still staged. Whatever else a killed run left in
`.staging/` is removed.
"""

import contextlib
import ctypes
import errno
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from vitport import locks
from vitport.appearing import sync, sync_folder
from vitport.artifacts import LISTING, PUBLISHING, STAGING, folder, intact, ordered, read, same_checkpoint, text
from vitport.errors import INTERRUPTS, OutputError, what_the_system_says

GONE = "gone"
"""Where in the staging folder the artifacts go that leave."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""From <fcntl.h> and <linux/fs.h>."""


@contextlib.contextmanager
def staging(out: Path, wait: locks.Wait) -> Iterator[Path]:
    """An empty folder inside `out`, for one run at a time; gone afterwards, and so is an `out` made in vain.

    wait: called once if another run holds the folder. Raises OutputError where nothing can be written, AssetError where
    `out` has a list that is not ours.
    """
    try:
        made = _make(out)
        with _locked(out, wait):
            stage = out / STAGING
            _finish(stage, out)
            try:
                shutil.rmtree(stage, ignore_errors=True)
                stage.mkdir()
                yield stage
            finally:
                shutil.rmtree(stage, ignore_errors=True)
                _remove_empty(made)
    except OSError as error:
        raise OutputError(f"{error.filename or out}: {what_the_system_says(error)}") from error


def publish(stage: Path, out: Path, listing: dict) -> None:
    """Gives the staged artifacts of `listing` their final names and writes the list; takes all back where it can't.

    Artifacts of the same checkpoint that this run did not make stay, if they are whole and listed with the fields of
    today; others go. One that is there already, byte for byte, is not touched.
    """
    pending = _pending(out, listing)
    for entry in pending[PUBLISHING]["next"]:
        sync(stage / folder(entry))
    during = _written(stage / "during.json", pending)
    after = _written(stage / "after.json", _settled(pending, pending[PUBLISHING]["next"]))
    before = _copied(out / LISTING, stage / "before.json")
    with _undisturbed(), contextlib.ExitStack() as undo:
        undo.callback(_put_back, before, out / LISTING)
        during.replace(out / LISTING)
        for staged, final in _moves(stage, out, pending):
            _swap(staged, final)
            undo.callback(_swap, staged, final)
        after.replace(out / LISTING)
        undo.pop_all()
    sync_folder(out)


def _pending(out: Path, listing: dict) -> dict:
    """The list that holds while artifacts move: those that don't, and for the others what was and what will be."""
    earlier = read(out) or {"artifacts": []}
    ours = {folder(entry) for entry in listing["artifacts"]}
    others = [entry for entry in earlier["artifacts"] if folder(entry) not in ours]
    same = same_checkpoint(earlier, listing)
    fields = [set(entry) for entry in listing["artifacts"]]
    kept = [entry for entry in others if same and set(entry) in fields and intact(out, entry)]
    gone = [entry for entry in others if entry not in kept and (out / folder(entry)).exists()]
    fresh = [entry for entry in listing["artifacts"] if not intact(out, entry)]
    moving = {folder(entry) for entry in [*gone, *fresh]}
    facts = {key: {**(earlier[key] if kept else {}), **listing[key]} for key in ("versions", "reference")}
    return {
        **listing,
        **facts,
        "artifacts": ordered([*kept, *(entry for entry in listing["artifacts"] if folder(entry) not in moving)]),
        PUBLISHING: {"earlier": [each for each in earlier["artifacts"] if folder(each) in moving], "next": fresh},
    }


def _settled(pending: dict, arrived: list[dict]) -> dict:
    """The list after the moves, of which those of `arrived` were made."""
    facts = {key: value for key, value in pending.items() if key != PUBLISHING}
    return {**facts, "artifacts": ordered([*pending["artifacts"], *arrived])}


def _moves(stage: Path, out: Path, pending: dict) -> list[tuple[Path, Path]]:
    """Pairs of a staged and a final place that shall change their contents."""
    fresh = [folder(entry) for entry in pending[PUBLISHING]["next"]]
    gone = [folder(entry) for entry in pending[PUBLISHING]["earlier"] if folder(entry) not in fresh]
    return [(stage / each, out / each) for each in fresh] + [(stage / GONE / each, out / each) for each in gone]


def _finish(stage: Path, out: Path) -> None:
    """Makes the moves that a killed run had still to make. Raises AssetError for a list that is not ours."""
    pending = read(out)
    if not pending or PUBLISHING not in pending:
        return
    stage.mkdir(exist_ok=True)
    with _undisturbed():
        for staged, final in _still_due(stage, out, pending):
            _swap(staged, final)
        arrived = [entry for entry in pending[PUBLISHING]["next"] if intact(out, entry)]
        _written(stage / "after.json", _settled(pending, arrived)).replace(out / LISTING)


def _still_due(stage: Path, out: Path, pending: dict) -> list[tuple[Path, Path]]:
    """Of the moves, those that were not made: artifacts that have not arrived or not left."""
    arrived = {out / folder(entry) for entry in pending[PUBLISHING]["next"] if intact(out, entry)}
    return [
        (staged, final)
        for staged, final in _moves(stage, out, pending)
        if (final.exists() if staged.is_relative_to(stage / GONE) else final not in arrived and staged.exists())
    ]


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


def _swap(one: Path, other: Path) -> None:
    """Two folders change places, in one step where the kernel can; where only one is there, it changes its name."""
    parents = [path.parent for path in (one, other)]
    try:
        for parent in parents:
            parent.mkdir(parents=True, exist_ok=True)
        if one.exists() and other.exists():
            _exchange(one, other)
        elif one.exists() or other.exists():
            one.rename(other) if one.exists() else other.rename(one)
        for parent in parents:
            sync_folder(parent)
    finally:
        _remove_empty(parents)


def _exchange(one: Path, other: Path) -> None:
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 and renameat2(AT_FDCWD, bytes(one), AT_FDCWD, bytes(other), RENAME_EXCHANGE) == 0:
        return
    if renameat2 and ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(other))
    aside = one.with_name(f"{one.name}.aside")
    with contextlib.ExitStack() as undo:
        for source, target in ((other, aside), (one, other), (aside, one)):
            source.rename(target)
            undo.callback(target.rename, source)
        undo.pop_all()


def _written(path: Path, listing: dict) -> Path:
    """A list on the disk, to be renamed."""
    path.write_text(text(listing), encoding="utf-8")
    sync(path)
    return path


def _copied(path: Path, copy: Path) -> Path:
    """`copy`, which is there if `path` is."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(path, copy)
    return copy


def _put_back(copy: Path, path: Path) -> None:
    copy.replace(path) if copy.exists() else path.unlink(missing_ok=True)


def _make(out: Path) -> list[Path]:
    """Makes `out`; returns the folders that were not there before, innermost first."""
    made = [each for each in (out, *out.parents) if not each.exists()]
    out.mkdir(parents=True, exist_ok=True)
    return made


def _remove_empty(folders: list[Path]) -> None:
    for each in folders:
        with contextlib.suppress(OSError):
            each.rmdir()


@contextlib.contextmanager
def _locked(out: Path, wait: locks.Wait) -> Iterator[None]:
    """An exclusive lock on the folder itself, which leaves no file behind.

    It ends with the process and the children that inherit it: no other run begins while one of a killed run still dies.
    """
    while True:
        out.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
        os.set_inheritable(descriptor, True)
        try:
            locks.lock(descriptor, locks.ALONE, wait)
            if _still_there(descriptor, out):
                yield
                return
        finally:
            os.close(descriptor)


def _still_there(descriptor: int, out: Path) -> bool:
    """Whether the folder that was locked is still the one of that name: the run before may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), out.stat())
    except FileNotFoundError:
        return False
