"""The child process of one framework: `python -m vitport.worker job.json`, where nothing is shared but files.

A job is JSON: a task, its arguments, and the path where its result must appear. Progress goes to standard output, a
line each, behind `MARK`; the exit code is the error's.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from vitport import exporting
from vitport.forks import die_with_parent, guarded
from vitport.parity import measuring, tapping

TASKS: dict[str, Callable[[dict], dict]] = {**exporting.TASKS, **measuring.TASKS, **tapping.TASKS}


def main(path: str) -> int:
    """Runs the job; returns the exit code."""
    job = json.loads(Path(path).read_text())
    die_with_parent(job["parent"])
    return guarded(lambda: TASKS[job["task"]](job), Path(job["result"]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
