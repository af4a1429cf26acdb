"""What a person sees: progress while a command works, a table at its end. No other file prints.

Progress goes to standard error, results to standard output. On a terminal a line for each part changes in place; in a
log each change is a line.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

MEGABYTE = 1e6


class Progress:
    """Shows what each part of a run is doing: `with Progress() as watch: watch("onnx", "writing classifier")`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._live = None
        self._parts: dict[str, int] = {}
        self._downloaded = 0.0

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty() and not self._quiet:
            from rich.console import Console
            from rich.progress import Progress as Live
            from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

            columns = (SpinnerColumn(), TextColumn("{task.fields[part]:<26}"), TextColumn("{task.description}"))
            self._live = Live(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
            self._live.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, part: str, text: str) -> None:
        """`part` is doing `text` now."""
        if self._quiet:
            return
        if self._live is None:
            print(f"{time.monotonic() - self._started:7.1f} s  {part:<26}{text}", file=sys.stderr, flush=True)
        elif part in self._parts:
            self._live.update(self._parts[part], description=text)
        else:
            self._parts[part] = self._live.add_task(text, part=part, total=None)

    def bytes(self, part: str, verb: str) -> "ByteProgress":
        """Progress of a transfer: a callback (bytes done, bytes in all or None) with rate and time left."""
        return ByteProgress(self, part, verb)


class ByteProgress:
    """Tells a `Progress` how far a transfer is, at most once in `INTERVAL` seconds."""

    INTERVAL = 0.5

    def __init__(self, watch: Progress, part: str, verb: str) -> None:
        self._watch, self._part, self._verb = watch, part, verb
        self._first: tuple[float, int] | None = None
        self._told = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now - self._told < self.INTERVAL and done != total:
            return
        self._told = now
        rate = (done - self._first[1]) / max(now - self._first[0], 1e-3)
        whole = f" of {total / MEGABYTE:.1f}" if total else ""
        left = f", {(total - done) / rate:.0f} s left" if total and rate and done < total else ""
        self._watch(self._part, f"{self._verb} {done / MEGABYTE:.1f}{whole} MB at {rate / MEGABYTE:.1f} MB/s{left}")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> None:
    """Prints a table to standard output, the first `left` columns to the left and numbers to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        grid.add_column(heading, justify="left" if index < left else "right", no_wrap=True, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=200)
    with _plain_spaces(console):
        console.print(grid)


@contextmanager
def _plain_spaces(console: object) -> Iterator[None]:
    """Without trailing blanks, where the output goes to a file."""
    if console.is_terminal:
        yield
        return
    with console.capture() as captured:
        yield
    print("\n".join(line.rstrip() for line in captured.get().rstrip("\n").split("\n")))


def outcome(out: Path, listing: dict, timings: dict) -> None:
    """The table at the end of a conversion: artifact, size, time, error to the oracle, ratio to JAX float32."""
    rows = [
        (
            entry["variant"],
            entry["format"],
            f"{entry['bytes'] / MEGABYTE:.1f} MB",
            f"{timings[entry['format']][entry['variant']]:.1f} s",
            f"{entry['error']['max_abs']:.1e}",
            f"{entry['error']['rms']:.1e}",
            f"{entry['error']['rms'] / entry['error']['limit']:.2f}",
            f"{entry['error']['ratio']:.2f}",
            entry["path"],
        )
        for entry in listing["artifacts"]
    ]
    headings = ("variant", "format", "size", "time", "max error", "RMS error", "of limit", "× JAX f32", "path")
    table(headings, rows, left=2)
    print(f"{len(rows)} artifacts in {out}, each proven against the float64 oracle on two images")


def catalogue(rows: Sequence) -> None:
    """The table of manifests; what is wrong with a manifest below it."""
    table(
        ("name", "parameters", "bytes", "top-1", "variants", "title"),
        [
            (
                row.name,
                f"{row.parameters:,}" if row.parameters else "-",
                f"{row.bytes / MEGABYTE:,.1f} MB" if row.bytes else "-",
                f"{row.top1:.3f}" if row.top1 else "-",
                ", ".join(row.variants),
                row.title or "not valid, see below",
            )
            for row in rows
        ],
    )
    for row in rows:
        if row.problem:
            print(row.problem, file=sys.stderr)
