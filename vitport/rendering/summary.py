"""What a report comes to, in a few sentences and one small table: the same on every page."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from vitport.parity.report_schema import Gate, Report
from vitport.parity.run_schema import Run, Verdict
from vitport.wording import micro, one_line, plural, size

WORST_FIRST = ("FAIL", "NOT RUN", "PASS")

BRIEF = 300
"""Letters of a reason in a table."""


@dataclass(frozen=True, slots=True)
class Square:
    """What became of one backend at one precision on one device: the worst of its variants."""

    verdict: Verdict
    ratio: float | None
    index: int
    """Of the run, in the report."""


def squares(report: Report) -> dict[tuple[str, str], dict[str, Square]]:
    """(device, precision) → backend → square, all in the order of the runs."""
    found: dict[tuple[str, str], dict[str, Square]] = {}
    for index, run in enumerate(report.runs):
        row = found.setdefault((run.device, run.precision), {})
        square = Square(verdict(report, run), run.ratio, index)
        row[run.backend] = max(row.get(run.backend, square), square, key=_badness)
    return found


def _badness(square: Square) -> tuple[int, float]:
    return -WORST_FIRST.index(square.verdict), square.ratio or 0.0


def verdict(report: Report, run: Run) -> Verdict:
    """Of a run; one that nobody judged is NOT RUN."""
    return report.judgement.runs.get(run.id, "NOT RUN")


def ran(report: Report) -> list[Run]:
    """The runs that have numbers."""
    return [run for run in report.runs if run.status == "RAN"]


def alike(runs: Iterable[Run]) -> Iterator[tuple[str, list[Run]]]:
    """`classifier float32 cpu` and its runs, for each variant, precision and device."""
    for kind, group in groupby(sorted(runs, key=_kind), key=_kind):
        yield " ".join(kind), list(group)


def _kind(run: Run) -> tuple[str, str, str]:
    return run.variant, run.precision, run.device


def counted(report: Report) -> dict[Verdict, int]:
    """Runs by verdict, the worst first."""
    verdicts = [verdict(report, run) for run in report.runs]
    return {each: verdicts.count(each) for each in WORST_FIRST}


def open_gates(report: Report) -> list[Gate]:
    """The gates that did not pass, failures first."""
    return sorted(
        (gate for gate in report.judgement.gates if gate.verdict != "PASS"),
        key=lambda gate: WORST_FIRST.index(gate.verdict),
    )


def headline(report: Report) -> str:
    """The verdict as a sentence."""
    counts, total = counted(report), len(report.runs)
    if report.judgement.verdict == "PASS":
        also = f"; {counts['NOT RUN']} that nothing requires did not run" if counts["NOT RUN"] else ""
        return f"{counts['PASS']} of {total} runs are the function of the JAX original, each within its limits{also}"
    if report.judgement.verdict == "FAIL":
        failed = sum(gate.verdict == "FAIL" for gate in report.judgement.gates)
        also = f", {counts['NOT RUN']} did not run" if counts["NOT RUN"] else ""
        return f"{counts['FAIL']} of {total} runs failed{also}; {many(failed, 'gate')} not passed"
    if not ran(report):
        return "nothing ran, so nothing is proven"
    return f"{counts['NOT RUN']} of {total} runs did not run; what was not measured is no pass"


@dataclass(frozen=True, slots=True)
class Fact:
    """What is large on a page, and the words that make a sentence of it."""

    value: str
    words: str

    def __str__(self) -> str:
        return f"{self.value} {self.words}".rstrip()


def worst_error(report: Report) -> Fact:
    """Which run is farthest from the oracle, by the reference's own error."""
    nan = [run for run in ran(report) if run.relative is None or run.relative.rms is None]
    if nan:
        return Fact("NaN", f"in {name(nan[0])}" + (f" and {many(len(nan) - 1, 'other run')}" if nan[1:] else ""))
    run = max((each for each in report.runs if each.ratio is not None), key=lambda each: each.ratio, default=None)
    if run is None:
        return Fact("none", "measured")
    rms = micro(run.relative and run.relative.rms)
    return Fact(
        factor(run.ratio), f"the reference's own, in {name(run)}: RMS {rms} millionths of the spread of the outputs"
    )


def cause(report: Report) -> str:
    """Why what failed has failed, as far as somebody looked; empty where nobody did."""
    found = [f"{name(run)}: {run.diagnosis}" for run in report.runs if run.diagnosis]
    return found[0] + (f"; and {many(len(found) - 1, 'more run')} below" if found[1:] else "") if found else ""


def flips(report: Report) -> Fact:
    """Changed classes over all runs, and what so many images can say at all."""
    asked = [run for run in report.runs if run.top1 is not None]
    if not asked:
        return Fact("not counted", "")
    unexplained = sum(not flip.explained for run in asked for flip in run.flips)
    worst = max(asked, key=lambda run: run.top1.bound).top1
    return Fact(
        str(sum(len(run.flips) for run in asked)),
        f"in {many(len(asked), 'run')}, {unexplained} unexplained; at most {worst.count - worst.agree} of "
        f"{many(worst.count, 'image')}, so with 95 % confidence fewer than {percent(worst.bound)} of such images",
    )


def images(report: Report) -> Fact:
    """What the runs were fed."""
    fed = report.identity.images
    return Fact(f"{fed.count:,}", f"{plural(fed.count, 'image')}, {fed.source}")


def machine(report: Report) -> Fact:
    """Where it ran."""
    known = report.machine
    return Fact(known.gpu or known.processor, f"{many(known.cores, 'core')}, {size(known.memory)}, {known.platform}")


def reference(run: Run) -> float | None:
    """RMS error, relative, of what the run is compared with."""
    rms = run.relative and run.relative.rms
    return rms / run.ratio if rms and run.ratio else None


def verdicts_of(run: Run, gates: Iterable[Gate]) -> Iterator[Gate]:
    """The gates of one run."""
    return (gate for gate in gates if gate.run == run.id)


def brief(reason: str) -> str:
    """A reason, cut to what fits into a table."""
    return one_line(reason, BRIEF)


def name(run: Run) -> str:
    """A run, for people."""
    return f"{run.backend} {run.variant}, {run.precision} on {run.device}"


def place(device: str, precision: str) -> str:
    """A device and a precision, for people."""
    return f"{device} {precision}"


def many(count: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {plural(count, noun)}"


def percent(share: float) -> str:
    """Of a rate."""
    return f"{100 * share:.2g} %"


def factor(ratio: float | None) -> str:
    """A multiple of something: `1.24×`."""
    if ratio is None:
        return "–"
    digits = next((digits for digits, bound in ((2, 10), (1, 100), (0, 1e9)) if abs(ratio) < bound), None)
    return f"{ratio:.3g}×" if digits is None else f"{ratio:,.{digits}f}×"


def number(value: float | None) -> str:
    """Three digits; null is what was no number."""
    return "NaN" if value is None else f"{value:.3g}"
