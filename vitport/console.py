"""What a person sees: progress while a command works, a table at its end.

Progress goes to standard error, results to standard output. On a terminal a line for each part changes in place; in a
log each change is a line.
"""

import json
import shutil
import sys
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from vitport.fields import shortened, shown
from vitport.wording import harmless, micro, one_line, plural

MEGABYTE = 1e6

LAST_WORDS, WIDEST = 4, 160
"""Lines of what a process said before it died, and the letters of each."""

MOST_NEW = 5
"""New runs whose names `diff` shows."""

DONE = "done"
"""What a part says last."""


class Progress:
    """Shows what each part of a run is doing: `with Progress() as watch: watch("onnx", "writing classifier")`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._live = None
        self._parts: dict[str, int] = {}
        self._downloaded = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, part: str, text: str) -> None:
        """`part` is doing `text` now."""
        if self._quiet:
            return
        if self._live is None and sys.stderr.isatty():
            self._live = _live()
            self._live.start()
        if self._live is None:
            print(
                f"{time.monotonic() - self._started:7.1f} s  {part:<26}  {one_line(text)}", file=sys.stderr, flush=True
            )
        else:
            if part not in self._parts:
                self._parts[part] = self._live.add_task(text, part=part, total=1)
            self._live.update(self._parts[part], description=text, completed=int(text == DONE))

    def bytes(self, part: str, verb: str, patience: float = 0.0) -> "ByteProgress":
        """Progress of a transfer: a callback (bytes done, bytes in all or None) with rate and time left.

        patience: seconds in which nothing is told, for what is mostly done by then.
        """
        return ByteProgress(self, part, verb, patience)


def _live() -> Any:
    """The lines that change in place; rich takes a tenth of a second to import, so not before there is one to show."""
    from rich.console import Console
    from rich.progress import Progress as Live
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    part, text = TextColumn("{task.fields[part]:<26}"), TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(finished_text="✓"), part, text)
    return Live(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)


class ByteProgress:
    """Tells a `Progress` how far a transfer is, at most once in `INTERVAL` seconds."""

    INTERVAL = 0.5

    def __init__(self, watch: Progress, part: str, verb: str, patience: float) -> None:
        self._watch, self._part, self._verb, self._patience = watch, part, verb, patience
        self._first: tuple[float, int] | None = None
        self._told = 0.0

    def __call__(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        self._first = self._first or (now, done)
        if now - self._first[0] < self._patience or (now - self._told < self.INTERVAL and done != total):
            return
        self._told = now
        rate = (done - self._first[1]) / max(now - self._first[0], 1e-3)
        whole = f" of {total / MEGABYTE:.1f}" if total else ""
        left = f", {(total - done) / rate:.0f} s left" if total and rate and done < total else ""
        self._watch(self._part, f"{self._verb} {done / MEGABYTE:.1f}{whole} MB at {rate / MEGABYTE:.1f} MB/s{left}")


def json_document(value: Any) -> None:
    """Prints the result for a program: one JSON document, in ASCII, so that no terminal's encoding can break it."""
    print(json.dumps(value, indent=2))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], text: Container[str]) -> None:
    """Prints a table to standard output: columns named in `text` to the left, numbers to the right.

    A terminal that is too narrow cuts the last column, and only if it is text: half a number is a wrong one.
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() and headings[-1] in text else sys.maxsize
    sides = [str.ljust if name in text else str.rjust for name in headings]
    lines = [
        "  ".join(side(cell, width) for side, cell, width in zip(sides, cells, widths, strict=True))
        for cells in (headings, *rows)
    ]
    lines.insert(1, "─" * max(map(len, lines)))
    for line in lines:
        print(_cut(line.rstrip(), room))


def _cut(line: str, room: int) -> str:
    return line if len(line) <= room else f"{line[: room - 1]}…"


def _many(count: int, noun: str) -> str:
    return f"{count} {plural(count, noun)}"


def outcome(out: Path, listing: dict, timings: dict) -> None:
    """The table at the end of a conversion: artifact, size, time, error to the oracle, and how good that is."""
    rows = [
        (
            entry["variant"],
            entry["format"],
            f"{entry['bytes'] / MEGABYTE:.1f}",
            f"{timings[entry['format']][entry['variant']]:.1f}",
            f"{entry['error']['max_abs']:.1e}",
            f"{entry['error']['rms']:.1e}",
            f"{entry['error']['rms'] / entry['error']['limit']:.0%}",
            f"{entry['error']['ratio']:.2f}",
        )
        for entry in listing["artifacts"]
    ]
    table(("variant", "format", "MB", "s", "max err", "RMS err", "limit", "× JAX"), rows, text=("variant", "format"))
    count = _many(len(rows), "artifact")
    print(f"\n{count} in {out}/<variant>/<format>, each proven against the float64 oracle on two images.")
    print("limit: RMS error in percent of the largest allowed. × JAX: RMS error over that of JAX in float32.")


def verification(report: Any, folder: Path | None = None) -> None:
    """The table of a verification, what failed or did not run, and the verdict."""
    judgement = report.judgement
    rows = [
        (
            run.backend,
            run.variant,
            run.precision,
            run.device,
            judgement.runs[run.id],
            micro(run.relative.rms) if run.relative else "-",
            _scientific(run.error.max) if run.error else "-",
            f"{run.top1.agree}/{run.top1.count}" if run.top1 else "-",
            f"{run.speed.rate:.1f}" if run.speed else "-",
            f"{run.speed.memory / MEGABYTE:.0f}" if run.speed else "-",
        )
        for run in report.runs
    ]
    headings = ("backend", "variant", "precision", "device", "verdict", "RMS", "max", "top-1", "images/s", "MB")
    table(headings, rows, text=headings[:5])
    last_words = {run.id: run.log for run in report.runs}
    for verdict, runs, reason in _alike(judgement.gates):
        more = f" and {len(runs) - 1} more" if runs[1:] else ""
        print(f"\n{verdict}  {runs[0]}{more}: {one_line(reason)}")
        for line in last_words.get(runs[0], [])[-LAST_WORDS:]:
            print(f"  | {one_line(line, WIDEST)}")
    for run in report.runs:
        if run.diagnosis:
            print(f"\n{run.id}: {one_line(run.diagnosis)}")
    fed, page = report.identity.images, f"; {folder}/report.html" if folder else ""
    print(f"\n{judgement.verdict}  {report.name}, {_many(fed.count, 'image')} ({one_line(fed.source)}){page}")
    print(
        "RMS, max: of the difference from Flax in float64; RMS in millionths of the outputs' spread, max in their unit."
    )


def _alike(gates: Sequence[Any]) -> Iterator[tuple[str, list[str], str]]:
    """Gates that are not passed: verdict, runs of one backend, and the reason that they share."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for gate in gates:
        if gate.verdict != "PASS":
            alike.setdefault((gate.verdict, gate.run.partition("/")[0], gate.reason), []).append(gate.run)
    return ((verdict, runs, reason) for (verdict, _, reason), runs in alike.items())


def diagnosis(diagnosis: Any) -> None:
    """The table of packages, the machine, and what to do."""
    rows = [
        (each.package, each.state, each.says.get("version", "-"), each.says.get("devices", "-"), ", ".join(each.needed))
        for each in diagnosis.findings
    ]
    table(("package", "state", "version", "sees", "needed for"), rows, text=("package", "state", "sees", "needed for"))
    print()
    for name, value in (diagnosis.machine | diagnosis.settings).items():
        print(f"{name}: {value}")
    for each in diagnosis.findings:
        for name in ("float32 products", "providers", "threads", "built for"):
            if name in each.says:
                print(f"{each.package}, {name}: {each.says[name]}")
    print(f"GPU: {f'none, {diagnosis.gpu}' if diagnosis.gpu else 'the driver shows one'}")
    for each in diagnosis.findings:
        if each.remedy:
            print(f"\n{each.package} {'is missing' if each.state == 'missing' else 'does not work'}: {each.remedy}")


def _scientific(value: float | None) -> str:
    """Of a number that was measured: null is NaN."""
    return "NaN" if value is None else f"{value:.1e}"


def judged(found: Any, folder: Path | None) -> None:
    """What `gate` made of a report: the gates that did not pass, what changed, and the verdict."""
    judgement, before = found.report.judgement, found.before
    rows = [
        (gate.verdict, shown(gate.run), gate.gate, _measure(gate.measured), _measure(gate.limit))
        for gate in judgement.gates
        if gate.verdict != "PASS"
    ]
    if rows:
        table(("verdict", "run", "gate", "measured", "limit"), rows, text=("verdict", "run", "gate"))
        print()
    for run, (then, now) in found.changed.items():
        print(f"{shown(run)}: was {then or 'not judged'}, is {now}")
    name = shown(str(judgement.policy.get("name", "")))
    print(f"{judgement.verdict} under the policy {name}; it was {before.verdict} under {_policy_name(before)}")
    if folder:
        print(f"{folder}/report.html")


def difference(found: Any) -> None:
    """What `diff` found: first whether the two can be compared, then what got worse, then what else changed."""
    for reason in found.incomparable:
        print(f"these reports are not of the same: {reason}")
    for sentence in found.rejudged:
        print(one_line(sentence))
    print(f"verdict: was {found.old.judgement.verdict}, is {found.new.judgement.verdict}")
    parts = (("worse", found.regressions), ("better", found.improved), ("changed", found.identity))
    for name, changes in parts:
        if changes:
            print(f"\n{name}")
            rows = [(shown(each.run), *map(_short, (each.what, each.was, each.now, each.reason))) for each in changes]
            table(("where", "what", "was", "is", "why"), rows, text=("where", "what", "was", "is", "why"))
    if found.gained:
        more = f" and {len(found.gained) - MOST_NEW} more, see --json" if len(found.gained) > MOST_NEW else ""
        print(f"\nnew: {', '.join(map(shown, found.gained[:MOST_NEW]))}{more}")
    if found.ratios:
        print("\nover what it was; not judged")
        rows = [(shown(each.run), *map(_times, (each.error, each.rate, each.memory))) for each in found.ratios]
        table(("run", "RMS", "images/s", "memory"), rows, text=("run",))
    print(f"\n{_many(len(found.regressions), 'regression')}")


def _short(text: str) -> str:
    """For a cell: digests to twelve letters."""
    return shown(text[:12] if len(text) == 64 and set(text) <= set("0123456789abcdef") else shortened(text, 72))


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def _policy_name(judgement: Any) -> str:
    return shown(str(judgement.policy.get("name", "another")))


def _measure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def catalogue(rows: Sequence) -> None:
    """The table of manifests; what is wrong with a manifest below it."""
    table(
        ("name", "parameters", "MB", "top-1", "variants", "title"),
        [
            (
                row.name,
                f"{row.parameters:,}" if row.parameters else "-",
                f"{row.bytes / MEGABYTE:,.1f}" if row.bytes else "-",
                f"{row.top1:.3f}" if row.top1 else "-",
                ", ".join(row.variants),
                row.title or "not valid, see below",
            )
            for row in rows
        ],
        text=("name", "variants", "title"),
    )
    for row in rows:
        if row.problem:
            print(harmless(row.problem), file=sys.stderr)


def locked(rows: Sequence) -> None:
    """The table of `vitport lock`; what is not in order below it."""
    cells = [
        (row.name, row.state, f"{row.bytes / MEGABYTE:,.1f}" if row.bytes else "-", row.sha256 or "-") for row in rows
    ]
    table(("manifest", "state", "MB", "SHA-256"), cells, text=("manifest", "state", "SHA-256"))
    for row in rows:
        if row.problem:
            print(f"{row.name}: {harmless(row.problem)}; run: vitport lock", file=sys.stderr)


def cached(rows: Sequence) -> None:
    """The table of what is in the cache."""
    cells = [
        (
            row.name,
            row.kind,
            f"{row.bytes / MEGABYTE:,.1f}",
            row.when,
            (row.sha256 or "-")[:12],
            harmless(shown(row.url or "-")),
        )
        for row in rows
    ]
    headings = ("name", "kind", "MB", "when", "SHA-256", "from")
    table(headings, cells, text=("name", "kind", "when", "SHA-256", "from"))


def verdicts(verdicts: Sequence) -> None:
    """What `check` found: a line for a whole folder, every finding of another."""
    for verdict in verdicts:
        count = len(verdict.findings)
        size = f"{_many(verdict.artifacts, 'artifact')}, {_many(verdict.files, 'file')}"
        found = _many(count, "finding") if count else f"whole; {size}, {verdict.bytes / MEGABYTE:.1f} MB"
        print(f"{verdict.folder}: {found}")
        for finding in verdict.findings:
            print(f"  {finding.path}\n    expected  {finding.expected}\n    found     {finding.found}")
        for note in verdict.notes:
            print(f"  note: {note}")
        if verdict.sha256:
            print(f"  SHA-256 of artifacts.json: {verdict.sha256}")
