"""One process from its start to its end: seconds, processor seconds, and the memory of it and all it started.

Memory is read from /proc by a thread that costs a few per cent of a core, so a run is either sampled or timed.
"""

import json
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.02
"""Seconds between two looks at the resident memory. A high-water mark is the kernel's own, so that a peak is missed
only if the process ends within this time after it."""

SHARES_EVERY = 5
"""Looks between two at `smaps_rollup`, which walks all pages of a process."""

QUIET = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
"""Added to every contestant's environment: the CPU, and no logs."""

WORKER = re.compile(r"vitport\.worker\0.*/([^/\0]+)\.job\.json")
"""A child of vitport, by its command line: the job's name."""

STEP = re.compile(r"^ *(\d+\.\d) s  (\S+) +(.*)$", re.MULTILINE)
"""A line of vitport's progress: seconds since the start, part, what it does."""

TICK = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Peak:
    """Of one process, in bytes: all resident pages (mapped files among them), and those that are its own."""

    resident: int = 0
    anonymous: int = 0


class Sampler(threading.Thread):
    """Follows a process and its descendants until told to stop."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root, self._done = root, threading.Event()
        self._peaks: dict[int, tuple[str, Peak]] = {}
        self._tree = Peak()

    def run(self) -> None:
        look = 0
        while not self._done.is_set():
            pids = descendants(self._root)
            for pid in pids:
                self._look(pid)
            if look % SHARES_EVERY == 0:
                self._share(pids)
            look += 1
            self._done.wait(INTERVAL)

    def stop(self) -> dict:
        """Peaks by the part that a process plays, and of all processes together, each shared page counted once."""
        self._done.set()
        self.join()
        parts: dict[str, Peak] = {}
        for label, peak in self._peaks.values():
            part = parts.setdefault(label, Peak())
            part.resident, part.anonymous = max(part.resident, peak.resident), max(part.anonymous, peak.anonymous)
        return {
            "processes": {label: _fields(peak) for label, peak in parts.items()},
            "together": _fields(self._tree),
        }

    def _look(self, pid: int) -> None:
        """A process between fork and exec has the memory of its parent and soon another name: it is not counted."""
        with suppress(OSError, KeyError):
            command = Path(f"/proc/{pid}/cmdline")
            before, facts = command.read_text(), _kilobytes(f"/proc/{pid}/status")
            if command.read_text() != before:
                return
            peak = self._peaks.get(pid, ("", Peak()))[1]
            peak.resident = max(peak.resident, facts["VmHWM"])
            peak.anonymous = max(peak.anonymous, facts["RssAnon"])
            self._peaks[pid] = (role(before), peak)

    def _share(self, pids: Sequence[int]) -> None:
        total = Peak()
        for pid in pids:
            with suppress(OSError, KeyError):
                facts = _kilobytes(f"/proc/{pid}/smaps_rollup")
                total.resident += facts["Pss"]
                total.anonymous += facts["Pss_Anon"]
        self._tree.resident = max(self._tree.resident, total.resident)
        self._tree.anonymous = max(self._tree.anonymous, total.anonymous)


def role(command_line: str) -> str:
    """The name of vitport's job, `main` for every other process. command_line: as in /proc, zeros between words."""
    found = WORKER.search(command_line)
    return found[1] if found else "main"


def descendants(root: int) -> list[int]:
    """`root` and every process below it."""
    parents = dict(_parents())
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def run(command: Sequence[str], log: Path, limit: float, sampled: bool = False) -> dict:
    """Runs a command to its end; returns what was measured, with `error` in words where it failed.

    log: gets standard error. limit: seconds before it is stopped. The last line of standard output, if it is JSON, is
    the contestant's own result.
    """
    before, others = _children_seconds(), busy_seconds()
    with log.open("wb") as errors:
        started = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, **QUIET}
        )
        sampler = Sampler(child.pid) if sampled else None
        output = _finish(child, sampler, limit)
        wall = time.perf_counter() - started
    cpu = _children_seconds() - before
    measured = {
        "wall": wall,
        "cpu": cpu,
        "others": max(busy_seconds() - others - cpu, 0) / wall,
        "result": _result(output),
        "steps": steps(log.read_text(errors="replace")),
    }
    if sampler:
        measured["memory"] = sampler.stop()
    if child.returncode:
        measured["error"] = failure(child.returncode, log.read_text(errors="replace"), wall, limit)
    return measured


def steps(log: str) -> dict[str, list[float]]:
    """From vitport's progress, each part's first and last word, in seconds since the start."""
    parts: dict[str, list[float]] = {}
    for seconds, part, _ in STEP.findall(log):
        parts.setdefault(part, [float(seconds), 0.0])[1] = float(seconds)
    return parts


def failure(code: int, log: str, wall: float, limit: float) -> str:
    """Why a contestant has no result, on one line."""
    if wall >= limit:
        return f"stopped after {limit:g} s"
    lines = [line for line in log.splitlines() if line.strip()]
    return f"exit code {code}: {lines[-1].strip()[:200] if lines else 'no message'}"


def _finish(child: subprocess.Popen, sampler: Sampler | None, limit: float) -> str:
    """Standard output. A child that outlives the limit is asked to end, and then made to."""
    alarms = [threading.Timer(limit, child.terminate), threading.Timer(limit + 20, child.kill)]
    for alarm in alarms:
        alarm.start()
    if sampler:
        sampler.start()
    try:
        return child.communicate()[0].decode(errors="replace")
    except BaseException:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    finally:
        for alarm in alarms:
            alarm.cancel()


def _result(output: str) -> dict:
    last = output.strip().rpartition("\n")[2]
    with suppress(ValueError):
        value = json.loads(last)
        return value if isinstance(value, dict) else {}
    return {}


def _fields(peak: Peak) -> dict[str, int]:
    return {"resident": peak.resident, "anonymous": peak.anonymous}


def _kilobytes(path: str) -> dict[str, int]:
    """The lines `Name: 123 kB` of a file in /proc, in bytes."""
    text = Path(path).read_text()
    return {name: 1024 * int(value) for name, value in re.findall(r"^(\w+):\s+(\d+) kB$", text, re.MULTILINE)}


def processor_seconds(pid: int) -> float:
    """Of a process that lives or has not been waited for; 0 of one that is gone."""
    with suppress(OSError):
        user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / TICK
    return 0.0


def _parents() -> Iterator[tuple[int, int]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with suppress(OSError):
                after_name = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(after_name[1])


def _children_seconds() -> float:
    """Processor seconds of every process that was waited for so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def busy_seconds() -> float:
    """Processor seconds of the whole machine: user, nice, system, interrupts and stolen time, without idling."""
    user, nice, system, _, _, *rest = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
    return (user + nice + system + sum(rest)) / TICK
