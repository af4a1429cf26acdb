"""What a report says in two places and must say alike: one that was changed by hand mostly does not.

Numbers stand in `report.json` to their last bit, so what follows from others does so up to rounding. Who computes all
of them anew is found by running again, and by nothing else.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vitport.fields import shortened
from vitport.parity.contradictions import classes, errors, runs
from vitport.parity.contradictions.whole import Whole
from vitport.parity.report_schema import Report
from vitport.parity.run_schema import Run


@dataclass(frozen=True, slots=True)
class Kind:
    """Parts of a report that the same is claimed of. called: what one is called in a sentence."""

    parts: Callable[[Whole], Iterable[Any]]
    called: Callable[[Any], str]


@dataclass(frozen=True, slots=True)
class Claim:
    """What holds of every part of a kind, and what is said where it does not. holds: of a part and the whole."""

    kind: Kind
    holds: Callable[[Any, Whole], object]
    otherwise: str


def contradiction(report: Report) -> str | None:
    """The first of `CLAIMS` that does not hold, in words; each may count on those before it."""
    whole = Whole(report)
    broken = (
        f"{claim.kind.called(part)} {claim.otherwise}"
        for claim in CLAIMS
        for part in claim.kind.parts(whole)
        if not claim.holds(part, whole)
    )
    return next(broken, None)


def _the_run(run: Run) -> str:
    return f"the run {_quoted(run.id)}"


def _quoted(name: str) -> str:
    return ascii(shortened(name))


IMAGES = Kind(lambda whole: [whole.images], lambda images: "the images")
REFERENCES = Kind(lambda whole: whole.report.references.items(), lambda part: f"the reference {_quoted(part[0])}")
NAMES = Kind(
    lambda whole: sorted(whole.times.keys() | whole.report.judgement.runs.keys()),
    lambda name: f"the run {_quoted(name)}",
)
RUNS = Kind(lambda whole: whole.report.runs, _the_run)
SUBJECTS = Kind(
    lambda whole: whole.report.identity.subjects,
    lambda subject: f"the {_quoted(subject.variant)} of {_quoted(subject.name)}",
)
RAN = Kind(lambda whole: whole.ran.values(), _the_run)
CLASSIFIED = Kind(lambda whole: [run for run in whole.ran.values() if run.top1], _the_run)
ALL_PAIRS = Kind(lambda whole: [whole.report.pairs], lambda pairs: "the pairs")
PAIRS = Kind(lambda whole: whole.report.pairs, lambda pair: f"the pair of {_quoted(pair.a)} and {_quoted(pair.b)}")


CLAIMS: tuple[Claim, ...] = (
    Claim(IMAGES, lambda images, _: len(images.ids) == images.count, "are not as many as their ids"),
    Claim(IMAGES, lambda images, _: len(set(images.ids)) == images.count, "are not told apart by their ids"),
    Claim(IMAGES, runs.labelled, "are not as many as their labels"),
    Claim(RUNS, lambda run, whole: whole.times[run.id] == 1, "is there more than once"),
    Claim(
        RUNS,
        lambda run, _: run.id == f"{run.backend}/{run.variant}/{run.precision}/{run.device}",
        "is another than its fields say",
    ),
    Claim(
        NAMES,
        lambda name, whole: name in whole.report.judgement.runs and name in whole.times,
        "is either not judged or not there",
    ),
    Claim(RUNS, runs.measured, "has not the numbers of a run that ran, or has some though it did not run"),
    Claim(RUNS, runs.waited_for, "did not run, nor did another of the same, and is not required"),
    Claim(RAN, lambda run, whole: run.variant in whole.report.references, "has no reference"),
    Claim(REFERENCES, lambda part, _: part[1].spread != 0, "has a spread of nothing"),
    Claim(REFERENCES, runs.of_flax, "has another error of Flax than the runs of Flax"),
    Claim(RUNS, runs.made, "had nothing to run, though it was verified"),
    Claim(RAN, runs.verified, "is of nothing that was verified"),
    Claim(SUBJECTS, lambda subject, whole: (subject.name, subject.variant) in whole.tried, "was verified by no run"),
    Claim(RAN, lambda run, whole: run.fed == whole.images.sha256, "was fed other images than the report's"),
    Claim(RAN, runs.of_its_variant, "has not the numbers of its variant"),
    Claim(RAN, errors.distributed, "has errors whose quantiles, mean, RMS and largest are in no possible order"),
    Claim(RAN, errors.divided, "has relative errors that are not its errors over the spread"),
    Claim(
        RAN,
        lambda run, _: (run.error.max is None) == bool(run.nonfinite),
        "has finite errors though outputs are not, or the reverse",
    ),
    Claim(RAN, errors.shaped, "has a histogram whose counts and edges don't fit"),
    Claim(RAN, errors.counted, "has a histogram of more or fewer outputs than there are"),
    Claim(RAN, errors.binned, "has errors that are not those of its histogram"),
    Claim(RAN, errors.largest_among_so_many, "has an RMS error that is too small for its largest"),
    Claim(RAN, errors.over_its_reference, "has a ratio that is not its RMS error over the reference's"),
    Claim(CLASSIFIED, classes.of_all, "counts agreement on more or fewer images than there are"),
    Claim(CLASSIFIED, classes.bounded, "has a bound that is not that of its agreement"),
    Claim(CLASSIFIED, classes.flips, "disagrees on more or fewer images than it has flips"),
    Claim(CLASSIFIED, classes.named, "names images that are not there, or one twice"),
    Claim(CLASSIFIED, classes.listed, "shows more or fewer images than there are"),
    Claim(
        CLASSIFIED,
        classes.explained,
        "has a flip that is explained though its error does not explain it, or the reverse",
    ),
    Claim(CLASSIFIED, classes.logits, "shows logits that do not differ as it says"),
    Claim(CLASSIFIED, classes.pictured, "says of an image one thing here and another there"),
    Claim(CLASSIFIED, classes.worst_of_all, "has another largest error than its worst image"),
    Claim(RAN, runs.ten_named, "names more or fewer differences than it counts"),
    Claim(RAN, runs.repeated, "has noise that is none, or of more images than there are"),
    Claim(RAN, lambda run, _: not run.gradients or run.gradients.parts, "has gradients of nothing"),
    Claim(RAN, runs.told_apart, "has two gradients of one part"),
    Claim(RAN, runs.measured_in_float64, "has gradients in float64 that it says were not measured"),
    Claim(PAIRS, runs.of_two_runs, "is not of two runs of one variant that ran"),
    Claim(PAIRS, runs.triangle, "is nearer or farther than two with their errors can be"),
    Claim(PAIRS, runs.averaged, "differs by more on the whole than anywhere"),
    Claim(PAIRS, runs.agreeing, "agrees on more or fewer images than two with their flips can"),
    Claim(ALL_PAIRS, runs.once_each, "are not each two runs that are compared, once"),
    Claim(RAN, runs.beside_cpu, "differs from the CPU by other than the pair of both"),
)
"""All that is said twice, the names before the numbers."""
