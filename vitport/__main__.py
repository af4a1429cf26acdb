"""`python -m vitport`, and the script `vitport`."""

import os
import signal

from vitport.errors import INTERRUPTED


def main() -> None:
    """Runs the command line. Until it is imported nothing is to be tidied up, and Ctrl-C ends the process at once."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(INTERRUPTED))
    from vitport.cli import main as door

    door(prog_name="vitport")


if __name__ == "__main__":
    main()
