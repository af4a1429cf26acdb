"""How a process that belongs to another runs a task: it leaves a result or an error with a sentence, in a file.

The file appears by atomic rename or not at all; the exit code is the error's.
"""

import ctypes
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from vitport.errors import DEBUG, SOFTWARE, BackendError, OutOfMemory, OutputError, VitportError, what_the_system_says

EXHAUSTED = re.compile(r"out of memory|RESOURCE_EXHAUSTED|ResourceExhausted|bad_alloc|[Aa]llocate memory|OOM when")
"""What PyTorch, XLA, TensorFlow, C++ and ONNX Runtime say when memory ends."""

PR_SET_PDEATHSIG = 1
"""From <linux/prctl.h>: a killed parent takes its children with it."""


def forked(task: Callable[[], dict], result: Path) -> dict:
    """What `task` returns in a fork of its own; BackendError where that ends without a result."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        code = SOFTWARE
        try:
            die_with_parent(parent)
            code = guarded(task, result)
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


def guarded(task: Callable[[], dict], result: Path) -> int:
    """Runs `task` and leaves its result, or its error with a sentence; returns the exit code."""
    try:
        _leave(result, task())
    except VitportError as error:
        _trace(error)
        _leave(result, left_by(error))
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


def left_by(error: VitportError) -> dict:
    """What an error is in a child's result; of a fork's, what the fork left."""
    kind = error.kind if isinstance(error, _Failed) else type(error).__name__
    return {"error": str(error), "exit_code": error.exit_code, "kind": kind}


def _trace(error: Exception) -> None:
    """Prints where an error came from that has a sentence of its own, for `--debug`; a fork's has been printed."""
    if DEBUG in os.environ and not isinstance(error, _Failed):
        traceback.print_exception(error)


def _leave(result: Path, value: dict) -> None:
    partial = result.with_name(f"{result.name}.partial")
    partial.write_text(json.dumps(value))
    partial.replace(result)


def die_with_parent(parent: int) -> None:
    """From now on; at once where the process of that number is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
