"""Runs of `vitport convert` in processes of their own, for tests of what it promises; data/faults has the faults."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FAULTS = Path(__file__).parent / "data" / "faults"
DIGITS = ROOT / "manifests" / "digits.yaml"
SMALL = ("--format", "safetensors-timm", "--variant", "features")
"""The cheapest conversion."""

HEARING = ("env", "--default-signal=INT,TERM,HUP")
"""Signals reach a child of a terminal; whoever runs the tests (`nohup`, say) may have them ignored."""

MARK = f"VITPORT_TEST={uuid.uuid4()}"


def start(
    *arguments: object, before: Sequence[str] = (), verb: str = "convert", **environment: str
) -> subprocess.Popen:
    """`vitport convert`, or another verb, marked so that its children can be told from others. before: what runs it."""
    name, _, value = MARK.partition("=")
    return subprocess.Popen(
        [*HEARING, *before, sys.executable, "-m", "vitport", verb, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, name: value, "PYTHONPATH": str(FAULTS), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def convert(*arguments: object, fault: str | None = None, **environment: object) -> subprocess.CompletedProcess:
    process = start(*arguments, **environment, **({"VITPORT_FAULT": fault} if fault else {}))
    out, error = process.communicate(timeout=300)
    assert "Traceback" not in out.replace("  | Traceback", "") + error.replace("  | Traceback", "")
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)


def succeed(*arguments: object, **environment: str) -> dict:
    done = convert(*arguments, "--json", **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def survivors() -> list[str]:
    """Command lines of processes that a run of this module left behind."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if MARK.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def assert_none_survives() -> None:
    until = time.monotonic() + 10
    while survivors() and time.monotonic() < until:
        time.sleep(0.05)
    assert survivors() == []
