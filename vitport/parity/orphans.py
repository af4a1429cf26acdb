"""Runs that nobody made and that no other stands for: a verdict that did not wait for them would be silent of them."""

from collections.abc import Sequence

from vitport.backend_table import BACKENDS
from vitport.parity.run_schema import Run


def orphans(runs: Sequence[Run]) -> set[str]:
    """Ids of runs of artifacts that nobody ran, or not at a precision or on a device where a backend could have."""
    there = [run for run in runs if run.status == "RAN"]
    artifacts_run, ways_run = {_artifact(run) for run in there}, {_way(run) for run in there}
    idle = [run for run in runs if run.status == "NOT RUN" and run.cause != "absent" and _format(run)]
    return {
        run.id
        for run in idle
        if _artifact(run) not in artifacts_run or (run.cause != "inapplicable" and _way(run) not in ways_run)
    }


def _artifact(run: Run) -> tuple[str, str]:
    return run.variant, _format(run)


def _way(run: Run) -> tuple[str, str, str, str]:
    """An artifact, and how it was run."""
    return *_artifact(run), run.precision, run.device


def _format(run: Run) -> str:
    return BACKENDS[run.backend].artifact if run.backend in BACKENDS else ""
