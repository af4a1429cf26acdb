"""Strikes a piece of work at each of its steps in turn: at everything that it asks of the file system.

CPython announces such calls to audit hooks (PEP 578); `renameat2`, which goes by ctypes, is announced by a wrapper. The
work runs in a fork, where nothing that a test does to it has to be undone, and a kill leaves what it leaves.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from vitport.errors import OutputError

STEPS = {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.truncate", "shutil.rmtree", "exchange"}

UNSTRUCK = 99
"""Exit code of a run that had no such step any more."""

Strike = Callable[[], None]


def killed_at_every_step(work: Callable[[], None], folder: Path, prepare: Callable[[], None]) -> Iterator[int]:
    """Runs `prepare`, then `work` up to its first, second, third step below `folder`; yields the step after each kill.

    Ends with the run that was not killed any more.
    """
    return _struck(work, folder, prepare, (_is_step, _kill, [-signal.SIGKILL]))


def failed_at_every_step(
    work: Callable[[], None], folder: Path, prepare: Callable[[], None], number: int
) -> Iterator[int]:
    """The same, but each step that writes fails with the error `number`; `work` bears it or raises OutputError."""

    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return _struck(work, folder, prepare, (_writes, fail, [0, OutputError.exit_code]))


def _struck(work: Callable[[], None], folder: Path, prepare: Callable[[], None], fault: tuple) -> Iterator[int]:
    chosen, strike, allowed = fault
    for step in count():
        prepare()
        code = _forked(work, _Hook(os.fspath(folder), chosen, strike, step))
        if code == UNSTRUCK:
            return
        assert code in allowed, f"it ended with {code}, struck at step {step}"
        yield step


def _forked(work: Callable[[], None], hook: "_Hook") -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            sys.addaudithook(hook)
            work()
            code = UNSTRUCK if hook.left > 0 else 0
        except OutputError as error:
            code = error.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class _Hook:
    """Strikes at one step of those that are chosen, and never again."""

    def __init__(self, folder: str, chosen: Callable[[str, tuple], bool], strike: Strike, step: int) -> None:
        self.folder, self.chosen, self.strike, self.left = folder, chosen, strike, step + 1

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in STEPS or isinstance(arguments[0], int):
            return
        if os.fsdecode(arguments[0]).startswith(self.folder) and self.chosen(event, arguments):
            self.left -= 1
            if self.left == 0:
                self.strike()


def _is_step(event: str, arguments: tuple) -> bool:
    return True


def _writes(event: str, arguments: tuple) -> bool:
    opened = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    return bool(opened) or event in ("os.mkdir", "os.rename", "exchange")


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
