"""Runs jobs in child processes, a few side by side: a crash, a hang or a full memory stays inside its own.

Each child is `python -m vitport.worker`, leader of a process group that is killed whole when anything fails.
"""

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from vitport.errors import (
    DEBUG,
    AssetError,
    BackendError,
    CheckpointError,
    EnvironmentFault,
    Hung,
    OutOfMemory,
    OutputError,
    ParityError,
    UsageError,
    VitportError,
    WrongDevice,
    WrongPrecision,
)
from vitport.forks import how_it_died
from vitport.formats import environment
from vitport.hardware import cores
from vitport.job_arguments import MARK
from vitport.runners import Inapplicable

Watch = Callable[[str, str], None]
"""Told (job, what it is doing now)."""

ERRORS = {
    str(error.exit_code): error
    for error in (ParityError, UsageError, AssetError, CheckpointError, BackendError, EnvironmentFault, OutputError)
}

KINDS = {error.__name__: error for error in (OutOfMemory, WrongDevice, WrongPrecision, Inapplicable)}
"""Of those that share an exit code with others, the ones that a report tells apart."""

SAID = "  | "
"""Before a line that a crashed child said, where it stands beneath a message."""

LOG_LINES, LOG_COLUMNS = 12, 500
"""Of a crashed child's standard error, shown with the error."""

LONGEST_LOG = 65536
"""Bytes of it that `--debug` shows."""

LONGEST_LINE = 4096
"""Bytes of standard output taken at once: a child that never ends its line fills no memory here."""

NOTHING_FREE = 65536
"""Bytes, below which a child that failed has failed for want of them, whatever its framework made of it."""

TEMPORARY = "temporary"
"""Folder within a run's own that its children take for /tmp: torch and TensorFlow leave things there."""

PARALLEL = 2
"""Children at a time on a CPU: the import of one hides behind the work of another."""


THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
"""Read by PyTorch and its BLAS, by NumPy's, and by TensorFlow."""


@dataclass(frozen=True, slots=True)
class Job:
    """A task of `worker.TASKS`, its JSON arguments, and the device that it may use: on `cuda` one job at a time.

    alone: whether it has the machine to itself, so that its framework may use every core. program: the module that is
    run, `vitport.worker` or one that does something before it.
    """

    name: str
    task: str
    arguments: dict
    device: str = "cpu"
    alone: bool = False
    program: str = "vitport.worker"


def run(jobs: Sequence[Job], scratch: Path, watch: Watch, timeout: float) -> dict[str, dict]:
    """Each job's result by its name. The first failure kills the rest and is raised as the error it was in the child.

    timeout: seconds that one job may take. Raises BackendError for a child that hangs or dies.
    """
    group = _Group()
    with ThreadPoolExecutor(PARALLEL) as pool:
        futures = {pool.submit(_run, job, scratch, watch, timeout, group): job for job in jobs}
        try:
            return {futures[done].name: done.result() for done in as_completed(futures)}
        except BaseException:
            group.kill()
            pool.shutdown(cancel_futures=True)
            raise


class _Group:
    """The children that run now; after `kill` no other may start."""

    def __init__(self) -> None:
        self._lock, self._turn = threading.Lock(), threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._dead = False

    def start(self, command: list[str], **options) -> subprocess.Popen:
        with self._lock:
            if self._dead:
                raise BackendError("it was stopped because another part of the run failed")
            child = subprocess.Popen(command, start_new_session=True, **options)
            self._running.add(child)
            return child

    def turn(self, job: Job) -> contextlib.AbstractContextManager:
        """One child at a time has the GPU, or the machine to itself."""
        return self._turn if job.device == "cuda" or job.alone else contextlib.nullcontext()

    def forget(self, child: subprocess.Popen) -> None:
        with self._lock:
            self._running.discard(child)

    def kill(self) -> None:
        with self._lock:
            self._dead = True
            for child in self._running:
                kill_group(child)


def kill_group(child: subprocess.Popen) -> None:
    """Kills a child and everything it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _run(job: Job, scratch: Path, watch: Watch, timeout: float, group: _Group) -> dict:
    result, log = scratch / f"{job.name}.result.json", scratch / f"{job.name}.log"
    specification = scratch / f"{job.name}.job.json"
    facts = {"task": job.task, "device": job.device, "result": str(result), "parent": os.getpid()}
    specification.write_text(json.dumps({**job.arguments, **facts}))
    (scratch / TEMPORARY).mkdir(exist_ok=True)
    with group.turn(job), log.open("wb") as errors:
        child = group.start(
            [sys.executable, "-P", "-m", job.program, str(specification)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            close_fds=False,  # the lock on the output folder is theirs too
            env=_environment(job, scratch),
        )
        hung = threading.Event()
        alarm = threading.Timer(timeout, _stop, [child, hung])
        alarm.start()
        try:
            _follow(child, job.name, watch)
            code = child.wait()
        finally:
            alarm.cancel()
            kill_group(child)
            group.forget(child)
    if hung.is_set():
        raise Hung(f"{job.name}: it did not finish within {timeout:g} s and was stopped")
    value = _result(job.name, result, code, log)
    watch(job.name, "done")
    return value


def _environment(job: Job, scratch: Path) -> dict[str, str]:
    fixed = {"PYTHONHASHSEED": "0", "PYTHONPATH": _module_path(), "TMPDIR": str(scratch / TEMPORARY)}
    return {
        **({} if job.alone else _threads()),
        **os.environ,
        **environment(job.device, job.arguments.get("precision", "float32")),
        **fixed,
    }


def _threads() -> dict[str, str]:
    """Each child's share of the cores, unless the user says otherwise: thread pools that wait for a core spin, and two
    children that each took all of them needed twice the processor time."""
    share = str(max(cores() // PARALLEL, 1))
    return dict.fromkeys(THREAD_COUNTS, share)


def _module_path() -> str:
    """PYTHONPATH with this very package on it; the working folder, which `-P` takes off, may hold anything."""
    return os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[1])]))


def _stop(child: subprocess.Popen, hung: threading.Event) -> None:
    hung.set()
    kill_group(child)


def _follow(child: subprocess.Popen, name: str, watch: Watch) -> None:
    """Passes progress on until the child closes its standard output."""
    with child.stdout as output:
        while line := output.readline(LONGEST_LINE):
            text = line.decode(errors="replace").rstrip("\n")
            if text.startswith(MARK):
                watch(name, text.removeprefix(MARK))


def _result(name: str, result: Path, code: int, log: Path) -> dict:
    """What the child left, or the error that it left or died of."""
    value = _parsed(result) if result.exists() else {"error": how_it_died(code)}
    if "error" not in value and code == 0:
        return value
    message = f"{name}: {value.get('error', how_it_died(code))}"
    error = error_of(value)
    tail = _last_lines(log)
    if issubclass(error, BackendError) and _disk_full(log.parent, tail):
        raise OutputError(f"{message}: the disk is full")
    if issubclass(error, BackendError):
        message = "\n".join([message, *(f"{SAID}{line:.{LOG_COLUMNS}}" for line in tail[-LOG_LINES:])])
    failure = error(message)
    if DEBUG in os.environ:
        failure.add_note("\n".join([f"standard error of {name}, its traceback included:", *tail]))
    raise failure


def error_of(value: dict) -> type[VitportError]:
    """The class of an error that a child left; BackendError for one that nobody knows."""
    return KINDS.get(str(value.get("kind"))) or ERRORS.get(str(value.get("exit_code")), BackendError)


def _parsed(result: Path) -> dict:
    """A child that dies may leave anything."""
    try:
        value = json.loads(result.read_text())
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"error": "it left a result that can't be read"}


def _last_lines(log: Path) -> list[str]:
    """Of a file of any length."""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - LONGEST_LOG, 0))
        return file.read().decode(errors="replace").splitlines()


def _disk_full(folder: Path, last_words: list[str]) -> bool:
    full = os.strerror(errno.ENOSPC)
    return any(full in line for line in last_words) or shutil.disk_usage(folder).free < NOTHING_FREE
