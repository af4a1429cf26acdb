"""Runs the plan: makes what a run needs, measures it, writes it down, says how far it is."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from statistics import median

from benchmarks import environments, measure, models
from benchmarks.contestants import BATCHES, SIZES
from benchmarks.ledger import ROOT, Ledger
from benchmarks.plan import Run, groups
from benchmarks.race import Lost, Racer, turn

Tell = Callable[[str], None]

GUESS = 10.0
"""Seconds that a run of which nothing is known is taken to last."""

SAMPLED = ("convert", "imports")
"""Parts whose round 0 is for memory."""


class Unprepared(Exception):
    """What a run needs could not be made."""


UNPREPARED = (environments.Unavailable, FileNotFoundError, Unprepared)
"""Why a run did not even begin."""


class Workplace:
    """Folders of one benchmark. Models and environments outlive a change of the code, runs and artifacts do not."""

    def __init__(self, folder: Path, fingerprint: str, tell: Tell) -> None:
        self.models, self.environments = folder / "models", folder / "environments"
        self.runs = folder / fingerprint
        self.ledger = Ledger(self.runs / "runs.jsonl")
        self.tell = tell
        self._unavailable: dict[str, str] = {}

    def run_all(self, runs: Sequence[Run]) -> None:
        """Everything that the ledger does not have yet."""
        for group in groups(runs):
            todo = [run for run in group if not self.ledger.has(run)]
            for run, measured in self._race(todo) if group[0].races else self._one_by_one(todo):
                self.ledger.add(run, measured)
                left = sum(self._expected(each) for each in runs if not self.ledger.has(each))
                self.tell(line(runs.index(run) + 1, len(runs), run, measured, left))

    def _expected(self, run: Run) -> float:
        known = [row["wall"] for row in self.ledger.rows(run.part, run.size, run.key) if "wall" in row]
        return median(known) if known else GUESS

    def _one_by_one(self, runs: Sequence[Run]) -> Iterator[tuple[Run, dict]]:
        for run in runs:
            yield run, self._measured(run)

    def _race(self, runs: Sequence[Run]) -> Iterator[tuple[Run, dict]]:
        """Round by round. Who can't be loaded has an error in the first, and is out."""
        racers: dict[str, Racer] = {}
        with contextlib.ExitStack() as ends:
            for run in {run.key: run for run in reversed(runs)}.values():
                try:
                    racers[run.key] = Racer(self._command(run), self._log(run), run.limit)
                    ends.callback(racers[run.key].end)
                except (*UNPREPARED, Lost) as error:
                    yield run, {"error": str(error)}
            for _, together in groupby(runs, key=lambda run: run.round):
                present = {run.key: run for run in together if run.key in racers}
                for key, row in turn({key: racers[key] for key in present}, BATCHES).items():
                    yield present[key], row
                    if "error" in row:
                        del racers[key]

    def _log(self, run: Run) -> Path:
        self.runs.mkdir(parents=True, exist_ok=True)
        return self.runs / f"log-{run.key}.txt"

    def _measured(self, run: Run) -> dict:
        """The numbers of one run, or its error."""
        try:
            command = self._command(run)
        except UNPREPARED as error:
            return {"error": str(error)}
        if run.part == "convert":
            os.sync()  # what the one before wrote is not this one's to wait for
        sampled = run.part in SAMPLED and not run.round
        measured = measure.run(command, self._log(run), run.limit, sampled)
        if not self._kept(run):
            shutil.rmtree(self._out(run), ignore_errors=True)
        return measured

    def _command(self, run: Run) -> list[str]:
        words = {"python": environments.python(run.environment, self.environments, self.tell)}
        words["out"] = str(self._fresh(run)) if run.part == "convert" else ""
        if run.size:
            model = models.prepare(SIZES[run.size], self.models, self.tell)
            words |= {"model": model.description, "checkpoint": model.checkpoint, "manifest": model.manifest}
            if run.part == "check" and not model.oracle.exists():
                self._oracle(run.size, model)
        if run.artifact:
            words["artifact"] = self._artifact(run)
        if "{digits}" in run.command:
            words["digits"] = self._digits()
        return [word.format_map({name: str(value) for name, value in words.items()}) for word in run.command]

    def _out(self, run: Run) -> Path:
        return self.runs / "artifacts" / run.size / run.maker if self._kept(run) else self.runs / "out"

    def _kept(self, run: Run) -> bool:
        return run.part == "convert" and not run.round and bool(run.makes) and bool(SIZES[run.size].throughput_rounds)

    def _fresh(self, run: Run) -> Path:
        out = self._out(run)
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        return out

    def _artifact(self, run: Run) -> Path:
        failed = self.ledger.error("convert", run.size, run.maker)
        path = self.runs / "artifacts" / run.size / run.maker / run.artifact.path
        if failed or not path.exists():
            raise FileNotFoundError(f"{run.maker} did not make it: {failed or 'no such file'}")
        return path

    def _oracle(self, size: str, model: models.Model) -> None:
        self.tell(f"{size}: running the oracle in float64")
        command = [sys.executable, "-m", "benchmarks.check", "oracle", "-", str(model.description)]
        _succeed(command)

    def _digits(self) -> Path:
        """A converted folder for `vitport check`."""
        folder = self.runs / "digits"
        if not folder.exists():
            self.tell("converting digits, for `vitport check`")
            command = ["-m", "vitport", "convert", "digits", "--format", "onnx,safetensors", "--out", str(folder)]
            _succeed([sys.executable, *command])
        return folder


def _succeed(command: Sequence[str]) -> None:
    """Runs what has to be there before a run. Raises Unprepared with the last line of what it says."""
    environment = {**os.environ, **measure.QUIET}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise Unprepared(f"{' '.join(command[1:4])} failed: {last or f'exit code {done.returncode}'}")


def line(number: int, count: int, run: Run, measured: dict, left: float) -> str:
    """One line of progress."""
    where = " ".join(filter(None, (run.size, run.part, f"round {run.round}")))
    took = f"NOT RUN: {measured['error']}" if "error" in measured else f"{measured['wall']:.2f} s"
    return f"{number:4}/{count}  {where:26} {run.label:52} {took}   (about {left / 60:.0f} min left)"
