"""`vitport check`: holds an output folder to its `artifacts.json`, byte by byte, and reports every finding at once.

Requirements that shaped it:
- libraries load an ONNX, safetensors or TorchScript file with a flipped bit and say nothing; here nothing is loaded,
  every byte is hashed;
- the folder holds what the list says and nothing else: what is not listed was proven by nobody;
- both may come from a stranger: the list is read strictly, nothing is opened but regular files, no link is followed;
- the list is held to itself too, but who changes a file and its hashes can only be caught by the digest of the list,
  from a place that he can't write (`--sha256`).
"""

import hashlib
import io
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from vitport import listing, locks, strict_json
from vitport.artifacts import LISTING, PUBLISHING, STAGING
from vitport.fields import shown
from vitport.listing import EXPECTED, File, Finding

CHUNK = 1 << 20
"""Bytes read at once: large enough that reading and hashing of several files overlap without Python's lock."""

THREADS = 8

FILE, FOLDER, EMPTY = "a file", "a folder", "an empty folder"

KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: FILE,
}

Progress = Callable[[int, int], None]
"""Told bytes hashed, bytes in all; from several threads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is so of one folder, which is whole where there are no `findings`; `notes` are no fault of an artifact.

    sha256: of its list, None where there is none to read. artifacts, files, bytes: what the list promises.
    """

    folder: Path
    sha256: str | None = None
    artifacts: int = 0
    files: int = 0
    bytes: int = 0
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()


def folder(out: Path, pinned: str | None, wait: locks.Wait, progress: Progress) -> Verdict:
    """Holds `out` to its list, and the list to `pinned`, its SHA-256, where that is known from elsewhere.

    wait: called once if a run is working in the folder; its end is awaited.
    """
    with shared(out, wait):
        content = _content(out / LISTING)
        if isinstance(content, Finding):
            return Verdict(folder=out, findings=(content,))
        digest = hashlib.sha256(content).hexdigest()
        changed = [Finding(LISTING, f"SHA-256 {pinned}", f"SHA-256 {digest}")] if pinned not in (None, digest) else []
        listed = listing.read(content)
        if isinstance(listed, list):
            return Verdict(folder=out, sha256=digest, findings=(*changed, *listed))
        listed = listing.settled(listed, lambda place: os.path.lexists(out / place), lambda entry: _intact(out, entry))
        files = listing.promised(listed)
        different = sorted(_differences(out, files, progress), key=lambda finding: finding.path)
        return Verdict(
            folder=out,
            sha256=digest,
            artifacts=len(listed["artifacts"]),
            files=len(files),
            bytes=sum(file.bytes for file in files.values()),
            findings=(*changed, *listing.altered(content, listed), *listing.contradictions(listed), *different),
            notes=_notes(out, listed),
        )


def to_json(verdicts: Sequence[Verdict]) -> dict:
    """The verdicts for scripts."""
    folders = [{**asdict(verdict), "folder": str(verdict.folder)} for verdict in verdicts]
    return {"whole": not any(verdict.findings for verdict in verdicts), "folders": folders}


@contextmanager
def shared(out: Path, wait: locks.Wait) -> Iterator[None]:
    """Keeps runs out of the folder while it is read, where it can be opened and its file system knows locks."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(locks.held(out, locks.SHARED, wait))
        yield


def _content(path: Path) -> bytes | Finding:
    """The bytes of the list, or why there are none."""
    try:
        with open(_open(path), "rb") as file:
            return file.read(strict_json.MAX_BYTES + 1)
    except FileNotFoundError:
        return Finding(LISTING, EXPECTED, "nothing; convert again, or fetch it from where the folder came from")
    except OSError as error:
        return Finding(LISTING, EXPECTED, _why(path, error))


def _differences(out: Path, files: dict[str, File], progress: Progress) -> Iterator[Finding]:
    """Where the folder is not what the list promises: first what is there, then the bytes of every file."""
    folders = {str(parent) for path in files for parent in PurePosixPath(path).parents}
    seen = dict(_walk(out, folders))
    empty = {path for path, kind in seen.items() if kind == EMPTY}  # as a SavedModel's `assets` is
    for path in seen.keys() - files.keys() - {LISTING} - empty:
        yield Finding(shown(path), "a folder" if path in folders else "nothing: the list does not have it", seen[path])
    for path in files.keys() - seen.keys():
        yield Finding(path, f"a file of {files[path].bytes:,} bytes", "nothing")
    for path in files.keys() & seen.keys():
        if seen[path] != FILE:
            yield Finding(path, f"a file of {files[path].bytes:,} bytes", seen[path])
    present = [file for path, file in files.items() if seen.get(path) == FILE]
    counted = _Counter(sum(file.bytes for file in present), progress)
    with ThreadPoolExecutor(THREADS) as pool:
        yield from filter(None, pool.map(lambda file: _compare(out, file, counted), present))


def _walk(out: Path, folders: set[str]) -> Iterator[tuple[str, str]]:
    """What is in the folder, as (path, kind). It enters only `folders`, in which something is listed: another is one
    finding, whatever is in it. A staging area is a note."""
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            entries = list(os.scandir(out / below))
        except OSError as error:
            yield below or ".", _why(out / below, error)
            continue
        for entry in entries:
            path = f"{below}/{entry.name}" if below else entry.name
            kind = _kind(entry)
            if kind == FOLDER and path in folders:
                pending.append(path)
            elif not (kind == FOLDER and path == STAGING):
                yield path, EMPTY if kind == FOLDER and _is_empty(out / path) else kind


def _is_empty(folder: Path) -> bool:
    with suppress(OSError):
        return not any(os.scandir(folder))
    return False


def _kind(entry: os.DirEntry) -> str:
    try:
        return KINDS[stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)]
    except OSError as error:
        return f"unknown: {error.strerror}"


class _Counter:
    """Adds up what the threads have read."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._lock = threading.Lock()
        self._done, self._total, self._progress = 0, total, progress

    def __call__(self, count: int) -> None:
        with self._lock:
            self._done += count
            self._progress(self._done, self._total)


def _compare(out: Path, file: File, read: Callable[[int], None]) -> Finding | None:
    """The finding of one file, None where it is what was listed."""
    try:
        with open(_open(out / file.path), "rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            if size != file.bytes:
                return Finding(file.path, f"{file.bytes:,} bytes", f"{size:,} bytes")
            digest = _hash(opened, read)
    except OSError as error:
        return Finding(file.path, f"a file of {file.bytes:,} bytes", _why(out / file.path, error))
    return None if digest == file.sha256 else Finding(file.path, f"SHA-256 {file.sha256}", f"SHA-256 {digest}")


def _intact(out: Path, entry: dict) -> bool:
    """Whether the files of an entry are there and what it says."""
    files = listing.promised({"artifacts": [entry]}).values()
    return not any(_compare(out, file, lambda count: None) for file in files)


def _open(path: Path) -> int:
    """A descriptor of a regular file that nobody knows by another name; OSError for anything else. It neither follows a
    link nor waits for the other end of a pipe."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    raise OSError(f"a file of {facts.st_nlink} names (hard links)")


def _hash(opened: io.RawIOBase, read: Callable[[int], None]) -> str:
    digest, buffer = hashlib.sha256(), bytearray(CHUNK)
    view = memoryview(buffer)
    while count := opened.readinto(buffer):
        digest.update(view[:count])
        read(count)
    return digest.hexdigest()


def _why(path: Path, error: OSError) -> str:
    """What is there instead of a file, or why it can't be read."""
    with suppress(OSError):
        mode = path.lstat().st_mode
        if isinstance(error, PermissionError):
            return f"no permission to read it (mode {stat.S_IMODE(mode):03o})"
        if not stat.S_ISREG(mode):
            return KINDS[stat.S_IFMT(mode)]
    return error.strerror or str(error)


def _notes(out: Path, listed: dict) -> tuple[str, ...]:
    """What a killed run left, which harms no artifact."""
    found = {
        f"a field {PUBLISHING!r} in {LISTING}": PUBLISHING in listed,
        STAGING: (out / STAGING).is_dir(),
    }
    advice = "was left by a run that was killed; the next `vitport convert` into this folder tidies up"
    return tuple(f"{what} {advice}" for what, there in found.items() if there)
