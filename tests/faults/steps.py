"""Kills a piece of work before each of its steps in turn: of everything that it asks of the file system.

CPython announces such calls to audit hooks (PEP 578); `renameat2`, which goes by ctypes, is announced by a wrapper. The
work runs in a fork, which kills itself, so that nothing is tidied up.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

STEPS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.rmdir",
    "os.remove",
    "os.truncate",
    "os.link",
    "shutil.rmtree",
    "exchange",
}


def killed_at_every_step(work: Callable[[], None], folder: Path, prepare: Callable[[], None]) -> Iterator[int]:
    """Runs `prepare`, then `work` up to its first, second, third step below `folder`; yields the step after each kill.

    Ends with the run that was not killed any more.
    """
    step = 0
    while True:
        prepare()
        if not _killed(work, folder, step):
            return
        yield step
        step += 1


def _killed(work: Callable[[], None], folder: Path, step: int) -> bool:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sys.addaudithook(_hook(os.fspath(folder), step))
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), "the work itself failed"
    return code != 0


def _hook(folder: str, step: int) -> Callable:
    left = iter(range(step, -1, -1))

    def hook(event: str, arguments: tuple) -> None:
        if event in STEPS and os.fsdecode(arguments[0] or b"").startswith(folder) and next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook
