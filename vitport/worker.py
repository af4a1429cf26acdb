"""The child process of one framework: `python -m vitport.worker job.json`, where nothing is shared but files.

A job is JSON: a task, its arguments, and the path where its result must appear. A result appears by atomic rename or
not at all. Progress goes to standard output, a line each, behind `MARK`; the exit code is the error's.
"""

import ctypes
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import numpy as np

from vitport import artifacts, formats, yardstick
from vitport.appearing import sync
from vitport.architectures import TAPS, parameter_shapes
from vitport.backends.numpy import Model
from vitport.devices import Runner
from vitport.errors import (
    DEBUG,
    AssetError,
    BackendError,
    OutOfMemory,
    OutputError,
    ParityError,
    VitportError,
    what_the_system_says,
)
from vitport.job_arguments import architecture_of, model_and_images, model_of, say
from vitport.parity import measuring, tapping

EXHAUSTED = re.compile(r"out of memory|RESOURCE_EXHAUSTED|ResourceExhausted|bad_alloc|[Aa]llocate memory|OOM when")
"""What PyTorch, XLA, TensorFlow, C++ and ONNX Runtime say when memory ends."""

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: a killed parent takes its children with it."""

M_ARENA_MAX = -8
"""From <malloc.h> of glibc: how many heaps threads may share."""


def main(path: str) -> int:
    """Runs the job; returns the exit code."""
    job = json.loads(Path(path).read_text())
    _die_with_parent(job["parent"])
    return _guarded(lambda: TASKS[job["task"]](job), Path(job["result"]))


def export(job: dict) -> dict:
    """Writes every variant in one format and reads it back, each step in a fork of its own.

    The fork shares the import, which is most of the time, and makes an artifact depend on nothing that was exported
    before it: frameworks number their functions through the life of a process. What wrote an artifact can't help in
    reading it, and neither holds the other's memory.
    """
    row = formats.FORMATS[job["format"]]
    say(f"importing {' and '.join(row.packages) or 'nothing'}")
    formats.import_packages(row.name, row.packages, row.unneeded)
    module = formats.module(job["format"])
    return {variant: _write(job, module, variant) | _read_back(job, module, variant) for variant in job["variants"]}


def _write(job: dict, module: ModuleType, variant: str) -> dict:
    spec = formats.Export(
        architecture=architecture_of(job["architecture"]),
        variant=variant,
        output_name=job["output_name"],
        opset=job["opset"],
        labels=tuple(job["labels"]) if job["labels"] else None,
        provenance=job["provenance"],
    )
    folder = _folder(job, variant)
    folder.mkdir(parents=True)

    def write() -> dict:
        say(f"writing {variant}")
        _, params, _ = model_and_images(job)
        started = time.perf_counter()
        module.export(spec, params, folder)
        return {
            "seconds": time.perf_counter() - started,
            "input": {"name": module.INPUT.name, "layout": module.INPUT.layout},
            "output": {"name": module.output(spec), "width": spec.architecture.output_width(variant)},
        }

    return forked(write, Path(f"{job['result']}.{variant}.written"))


def _read_back(job: dict, module: ModuleType, variant: str) -> dict:
    folder, outputs = _folder(job, variant), Path(f"{job['result']}.{variant}.npy")

    def read() -> dict:
        say(f"reading {variant} back")
        with ThreadPoolExecutor(1) as disk:  # works meanwhile: publishing would wait for it
            synced = disk.submit(sync, folder)
            files = artifacts.files(folder)
            runner = _loaded(module, folder, job["device"])
            found = _computed(job, runner, variant, outputs)
            synced.result()
        return {"files": files, **found, "versions": module.VERSIONS}

    return forked(read, Path(f"{job['result']}.{variant}.read"))


def _loaded(module: ModuleType, folder: Path, device: str) -> Runner:
    """The artifact as a runner; one that its own format refuses is not the checkpoint's function."""
    try:
        return module.load(folder, device)
    except AssetError as error:
        raise ParityError(
            f"what was written is refused when it is read back, and nothing published: {error}"
        ) from error


def _computed(job: dict, runner: Runner, variant: str, outputs: Path) -> dict:
    """What the artifact makes of the images, and where.

    A model in NumPy that has the checkpoint's weights, bit for bit, is what the yardstick runs: its outputs are there.
    """
    if runner.model and runner.model.same(_definition(job, variant)):
        return {"outputs": None, "device": runner.facts()}
    np.save(outputs, runner(np.load(job["images"])))
    return {"outputs": str(outputs), "device": runner.facts()}


def _definition(job: dict, variant: str) -> Model:
    architecture, params = model_of(job)
    return Model(architecture, variant, {name: params[name] for name in parameter_shapes(architecture, variant)})


def _folder(job: dict, variant: str) -> Path:
    return Path(job["folder"]) / variant / job["format"]


def oracle(job: dict) -> dict:
    """The Flax reference in float64, and in float32 for what JAX itself achieves; both variants' outputs."""
    _share_one_heap()
    say("importing jax and flax")
    formats.import_packages("the oracle", formats.ORACLE_PACKAGES)
    from vitport.reference import flax_run

    arguments = model_and_images(job)
    outputs = {}
    for dtype in ("float64", "float32"):
        say(f"running the reference in {dtype}")
        taps = flax_run.run(*arguments, dtype)
        outputs |= {f"{dtype}/{tap}": taps[tap] for tap in TAPS.values()}
    np.savez(job["outputs"], **outputs)
    return {"outputs": job["outputs"], "versions": flax_run.facts()}


def in_numpy(job: dict) -> dict:
    """The definition in NumPy: in float64, to be held to the oracle; in float32, a good implementation of it.

    In float32 it runs on the images and on copies one last bit away (`yardstick.run`).
    """
    from vitport.backends import numpy as backend

    *model, pixels = model_and_images(job)
    kept = TAPS.values()
    say("running the definition in float64")
    runs = {"float64": backend.run(*model, pixels, "classifier", "float64", kept)}
    runs["float32"] = yardstick.run(*model, pixels, kept)
    outputs = {f"{run}/{tap}": taps[tap] for run, taps in runs.items() for tap in kept}
    np.savez(job["outputs"], **outputs)
    return {"outputs": job["outputs"], "versions": {"numpy": np.__version__}}


TASKS: dict[str, Callable[[dict], dict]] = {
    "export": export,
    "oracle": oracle,
    "yardstick": in_numpy,
    **measuring.TASKS,
    **tapping.TASKS,
}


def forked(task: Callable[[], dict], result: Path) -> dict:
    """What `task` returns in a fork of its own; BackendError where that ends without a result."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            _die_with_parent(parent)
            code = _guarded(task, result)
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise _Failed(code, result)
    return json.loads(result.read_text())


class _Failed(BackendError):
    """A fork failed: its own error where it left one, else how it died."""

    def __init__(self, code: int, result: Path) -> None:
        left = json.loads(result.read_text()) if result.exists() else {}
        super().__init__(left.get("error", how_it_died(code)))
        self.exit_code = left.get("exit_code", BackendError.exit_code)
        self.kind = left.get("kind", BackendError.__name__)


def how_it_died(code: int) -> str:
    """The exit code, or the name of the signal behind a negative one, of a process that left no result."""
    if code == 0:
        return "it ended without a result"
    if code > 0:
        return f"it ended with exit code {code}"
    hint = ", as Linux does when memory runs out" if -code == signal.SIGKILL else ""
    return f"it was killed by {signal.Signals(-code).name}{hint}"


def _guarded(task: Callable[[], dict], result: Path) -> int:
    """Runs `task` and leaves its result, or its error with a sentence; returns the exit code."""
    try:
        _leave(result, task())
    except VitportError as error:
        _trace(error)
        kind = error.kind if isinstance(error, _Failed) else type(error).__name__
        _leave(result, {"error": str(error), "exit_code": error.exit_code, "kind": kind})
        return error.exit_code
    except OSError as error:
        _trace(error)
        sentence = f"{error.filename or 'the output'}: {what_the_system_says(error)}"
        _leave(result, {"error": sentence, "exit_code": OutputError.exit_code})
        return OutputError.exit_code
    except Exception as error:
        traceback.print_exc()
        first = str(error).partition(chr(10))[0]
        exhausted = isinstance(error, MemoryError) or EXHAUSTED.search(first)
        sentence = "it ran out of memory" if exhausted else f"{type(error).__name__}: {first}"
        kind = OutOfMemory if exhausted else BackendError
        _leave(result, {"error": sentence, "exit_code": kind.exit_code, "kind": kind.__name__})
        return kind.exit_code
    return 0


def _trace(error: Exception) -> None:
    """Prints where an error came from that has a sentence of its own, for `--debug`; a fork's has been printed."""
    if DEBUG in os.environ and not isinstance(error, _Failed):
        traceback.print_exception(error)


def _leave(result: Path, value: dict) -> None:
    partial = result.with_name(f"{result.name}.partial")
    partial.write_text(json.dumps(value))
    partial.replace(result)


def _share_one_heap() -> None:
    """XLA's compiler runs in many threads, and each would fill a heap of its own and keep it: 50 MB for S/16."""
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _die_with_parent(parent: int) -> None:
    """From now on; at once where the process of that number is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
