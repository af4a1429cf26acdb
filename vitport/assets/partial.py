"""A download on its way: a folder with the bytes so far and what they are bytes of.

The folder is claimed by an atomic rename, so two processes never write into one file, lock or no lock; the bytes and
the version of the file they belong to (its ETag) can't be separated.
"""

import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".part"

OWNER = re.compile(r"\.(\w+)-(\d+)-[0-9a-f]{8}\.part$")
"""What a process puts behind the name of the file: its machine, its number, and a number for this attempt."""

FORGOTTEN = 24 * 3600.0
"""Seconds after which a download that has not moved is nobody's, on whatever machine it began: one that lives gives up
or goes on within a quarter of an hour (`download.Patience`), and clocks differ."""


@dataclass(frozen=True, slots=True)
class Partial:
    """A folder that only this download writes to, beside `target`."""

    folder: Path
    target: Path

    @classmethod
    def claim(cls, target: Path) -> "Partial":
        """What an earlier attempt left, released or of a process that is no more; else an empty one."""
        own = target.with_name(f"{target.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}")
        for left in (_released(target), *_orphans(target)):
            with contextlib.suppress(OSError):
                left.rename(own)
                return cls(own, target)
        own.mkdir()
        return cls(own, target)

    def release(self) -> None:
        """Leaves the bytes, if any, for the next attempt, unless another one left its own."""
        with contextlib.suppress(OSError):
            if self.size:
                self.folder.rename(_released(self.target))
        self.discard()

    def discard(self) -> None:
        """Removes everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def data(self) -> Path:
        """The file that grows."""
        return self.folder / "data"

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self.data.stat().st_size if self.data.exists() else 0

    def validator(self, url: str) -> str | None:
        """ETag or date of the version of `url` that the bytes are of; None if they can't be continued."""
        try:
            source = json.loads((self.folder / "source.json").read_text())
            return source["validator"] if source["url"] == url and self.size else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restart(self, url: str, validator: str | None) -> None:
        """Forgets the bytes; those that follow are of this version of `url`."""
        (self.folder / "source.json").unlink(missing_ok=True)
        self.data.write_bytes(b"")
        (self.folder / "source.json").write_text(json.dumps({"url": url, "validator": validator}))


def sweep(target: Path) -> None:
    """Removes what other attempts left of a file that is there by now."""
    for left in (_released(target), *_orphans(target)):
        shutil.rmtree(left, ignore_errors=True)


def _released(target: Path) -> Path:
    return target.with_name(f"{target.name}{SUFFIX}")


def _orphans(target: Path) -> list[Path]:
    """Folders in which the same file was to grow, and nobody works any more."""
    paths = target.parent.glob(f"*{SUFFIX}")
    return [path for path in paths if OWNER.sub("", path.name) == target.name and abandoned(path)]


def abandoned(path: Path) -> bool:
    """Whether a partial download belongs to no living process: released, ended on this machine, or long forgotten."""
    owner = _owner(path)
    if owner is None:
        return True
    host, pid = owner
    return (host == _host() and not _lives(pid)) or _age(path) > FORGOTTEN


def _owner(path: Path) -> tuple[str, int] | None:
    """Machine and process of a folder that has not been released."""
    found = OWNER.search(path.name)
    return (found[1], int(found[2])) if found else None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _age(path: Path) -> float:
    """Seconds since anything in the folder changed."""
    with contextlib.suppress(OSError):
        return time.time() - max(each.lstat().st_mtime for each in (path, *path.rglob("*")))
    return 0.0


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:40]
