"""Processes that have loaded what is compared, of which one at a time runs for some seconds: a slow minute hits all.

Whole processes after one another, each with its import and its load, lay a minute apart: a host that others share
changes by more than artifacts differ in that time.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks import measure


class Lost(Exception):
    """A contestant died, in words."""


class Racer:
    """A process that does `wait_for_turns`. log: gets its standard error. limit: seconds for one answer."""

    def __init__(self, command: Sequence[str], log: Path, limit: float) -> None:
        """Returns when the artifact is loaded. Raises Lost."""
        self._log, self._limit = log, limit
        with log.open("wb") as errors:
            self._child = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **measure.QUIET},
            )
        self._answer("ready")

    @property
    def cpu(self) -> float:
        """Processor seconds so far."""
        return measure.processor_seconds(self._child.pid)

    def rate(self, batch: int) -> float:
        """Images a second at a batch size. Raises Lost."""
        try:
            self._child.stdin.write(f"{batch}\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # the answer will say why
        return self._answer("rate")

    def end(self) -> None:
        """Lets it go, whatever it does."""
        self._child.kill()
        self._child.communicate()

    def _answer(self, name: str) -> float:
        alarm, started = threading.Timer(self._limit, self._child.kill), time.perf_counter()
        alarm.start()
        try:
            for line in self._child.stdout:
                if line.startswith(f'{{"{name}"'):  # frameworks print what they like
                    return json.loads(line)[name]
        finally:
            alarm.cancel()
        waited = time.perf_counter() - started
        raise Lost(measure.failure(self._child.wait(), self._log.read_text(errors="replace"), waited, self._limit))


def wait_for_turns(rate: Callable[[int], float]) -> None:
    """What a racer does once it is ready, to the end of its standard input. rate: images a second at a batch size."""
    _say(ready=True)
    for line in sys.stdin:
        _say(rate=rate(int(line)))


def images_per_second(count: int, call: Callable[[], object]) -> float:
    """Of a call that runs so many."""
    started = time.perf_counter()
    call()
    return count / (time.perf_counter() - started)


def _say(**value: object) -> None:
    print(json.dumps(value), flush=True)


def turn(racers: Mapping[str, Racer], batches: Sequence[int]) -> dict[str, dict]:
    """One round: what the ledger keeps of each contestant; `error` of one that died. Every batch size in turn."""
    busy, cpu = measure.busy_seconds(), {key: racer.cpu for key, racer in racers.items()}
    started = time.perf_counter()
    rows: dict[str, dict] = {key: {"wall": 0.0, "result": {}} for key in racers}
    for batch in batches:
        for key, racer in racers.items():
            if "error" not in rows[key]:
                _run(racer, batch, rows[key])
    used = sum(max(racer.cpu - cpu[key], 0) for key, racer in racers.items())  # of one that died nothing is known
    others = max(measure.busy_seconds() - busy - used, 0) / (time.perf_counter() - started)
    return {key: {**row, "others": others} for key, row in rows.items()}


def _run(racer: Racer, batch: int, row: dict) -> None:
    started = time.perf_counter()
    try:
        row["result"][str(batch)] = racer.rate(batch)
    except Lost as lost:
        row["error"] = str(lost)
    row["wall"] += time.perf_counter() - started
