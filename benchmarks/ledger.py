"""What was measured so far: one line of JSON a run, so that an interrupted benchmark goes on where it stopped.

Runs are kept by the fingerprint of what they measured. Other code, other versions or another machine begin anew, in a
file of their own.
"""

import hashlib
import json
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from benchmarks.machine import processor
from benchmarks.plan import Run

ROOT = Path(__file__).parents[1]

MEASURED = (
    "vitport/**/*.py",
    "benchmarks/peers/*.py",
    *(f"benchmarks/{name}.py" for name in ("contestants", "environments", "plan")),
    *(f"benchmarks/{name}.py" for name in ("check", "measure", "models", "onnx_step", "race", "runners", "throughput")),
)
"""The code that a run's numbers depend on: what is run, and what runs it."""


class Ledger:
    """The runs of one fingerprint."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows = [json.loads(line) for line in _whole_lines(path)]

    def add(self, run: Run, measured: dict) -> None:
        """Writes a run down at once."""
        row = {"part": run.part, "size": run.size, "key": run.key, "round": run.round, **measured}
        self._rows.append(row)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def has(self, run: Run) -> bool:
        """Whether the run is done, or its contestant failed and need not be tried again."""
        rows = self.rows(run.part, run.size, run.key)
        return any(row["round"] == run.round or "error" in row for row in rows)

    def rows(self, part: str, size: str, key: str) -> list[dict]:
        """Every run of one contestant, in the order of rounds."""
        wanted = {"part": part, "size": size, "key": key}
        return sorted((row for row in self._rows if wanted.items() <= row.items()), key=lambda row: row["round"])

    def timed(self, part: str, size: str, key: str) -> dict[int, dict]:
        """The timed runs that succeeded, by round; round 0 is never among them."""
        return {row["round"]: row for row in self.rows(part, size, key) if row["round"] and "error" not in row}

    def first(self, part: str, size: str, key: str) -> dict:
        """Round 0 where it succeeded: memory, or the check. Empty otherwise."""
        return next((row for row in self.rows(part, size, key) if not row["round"] and "error" not in row), {})

    def error(self, part: str, size: str, key: str) -> str:
        """Why the contestant has no numbers; empty where it did not fail."""
        return next((row["error"] for row in self.rows(part, size, key) if "error" in row), "")

    def everything(self) -> list[dict]:
        """All rows, in the order in which they were measured."""
        return list(self._rows)

    def forget_failures(self) -> None:
        """Lets those that failed try again."""
        self._rows = [row for row in self._rows if "error" not in row]
        if self._path.exists():
            self._path.write_text("".join(json.dumps(row) + "\n" for row in self._rows))


def fingerprint() -> str:
    """Of the code measured, of every installed version and of the processor."""
    digest = hashlib.sha256(f"{sys.version}\n{processor()}\n".encode())
    for line in sorted(f"{each.metadata['Name']}=={each.version}" for each in metadata.distributions()):
        digest.update(f"{line}\n".encode())
    for path in sorted({path for pattern in MEASURED for path in ROOT.glob(pattern)}):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _whole_lines(path: Path) -> Iterable[str]:
    """Lines that were written to their end."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return whole.splitlines()
