"""A download on its way: a folder with the bytes so far and what they are bytes of.

The folder is claimed by an atomic rename, so two processes never write into one file, lock or no lock; the bytes and
the version of the file they belong to (its ETag) can't be separated.
"""

import contextlib
import json
import os
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".part"


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
    """Removes what killed processes of this machine left of a file that is there by now."""
    for left in _orphans(target):
        shutil.rmtree(left, ignore_errors=True)


def _released(target: Path) -> Path:
    return target.with_name(f"{target.name}{SUFFIX}")


def _orphans(target: Path) -> list[Path]:
    """Folders of processes of this machine that have ended without releasing them."""
    prefix = f"{target.name}.{_host()}-"
    return [path for path in target.parent.glob(f"*{SUFFIX}") if path.name.startswith(prefix) and not _lives(path)]


def _lives(path: Path) -> bool:
    try:
        os.kill(int(path.name.split("-")[-2]), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError):
        return True
    return True


def _host() -> str:
    return socket.gethostname().replace("/", "_").replace("-", "_")[:40]
