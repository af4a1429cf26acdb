"""The report of a verification, made of what its runs left."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

from vitport import artifacts
from vitport.errors import VitportError
from vitport.manifest import Manifest
from vitport.parity import judging
from vitport.parity.bench import Result
from vitport.parity.comparison import Truth, beside, pair
from vitport.parity.image_sets import ImageSet
from vitport.parity.machine import machine
from vitport.parity.orphans import orphans
from vitport.parity.report_schema import SCHEMA, File, Identity, Images, Judgement, Pair, Report, Spread, Subject
from vitport.parity.run_report import did_not_run, ran
from vitport.parity.run_schema import Run
from vitport.parity.trials import Trial

UNJUDGED = Judgement(verdict="NOT RUN", exit_code=0, policy={}, policy_sha256="", gates=[], runs={})
"""Of a report whose numbers are complete."""


@dataclass(frozen=True, slots=True)
class Case:
    """What is verified. named: whether the command named backends, each of which must then run."""

    port: Manifest
    command: str
    out: Path
    listing: dict | None
    checkpoint: File
    pictures: ImageSet
    named: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trial, and what it left or why it left nothing."""

    trial: Trial
    result: Result | VitportError

    def run(self, truth: Truth) -> Run:
        """As a report has it."""
        if isinstance(self.result, VitportError):
            return did_not_run(self.trial, self.result)
        return ran(self.trial, self.result, truth)


def report_of(case: Case, outcomes: Sequence[Outcome], truths: dict[str, Truth], spreads: dict[str, Spread]) -> Report:
    """All the numbers, not judged yet."""
    runs = [outcome.run(truths[outcome.trial.variant]) for outcome in outcomes]
    spreads = {variant: _with_jax(spread, variant, runs) for variant, spread in spreads.items()}
    runs = [_with_ratio(run, spreads[run.variant]) for run in runs]
    pairs = list(_pairs(runs, outcomes, truths))
    runs = [_beside_cpu(run, pairs) for run in runs]
    return Report(
        schema=SCHEMA,
        name=case.port.name,
        title=case.port.title,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        architecture=asdict(case.port.architecture),
        identity=_identity(case, [outcome.trial for outcome in outcomes]),
        machine=machine(outcome.result for outcome in outcomes),
        references=spreads,
        runs=_required(runs, case.named),
        pairs=pairs,
        judgement=UNJUDGED,
    )


def _identity(case: Case, trials: Sequence[Trial]) -> Identity:
    """What another person needs to do it again."""
    subjects = {(trial.name, trial.variant): _subject(trial, case) for trial in trials if trial.sha256}
    path, pictures = case.out / artifacts.LISTING, case.pictures
    return Identity(
        manifest=File(path=case.port.path.as_posix(), sha256=case.port.digest),
        asset=case.checkpoint,
        artifacts=File(path=str(path), sha256=artifacts.sha256(path)) if case.listing else None,
        subjects=list(subjects.values()),
        images=Images(
            source=pictures.source,
            count=len(pictures.ids),
            sha256=pictures.sha256,
            ids=list(pictures.ids),
            labels=list(pictures.labels) if pictures.labels else None,
        ),
        command=case.command,
        seeds={"images": 0, "yardstick": 0},
    )


def _subject(trial: Trial, case: Case) -> Subject:
    path = str(trial.folder or case.checkpoint.path)
    return Subject(name=trial.name, variant=trial.variant, path=path, sha256=trial.sha256)


def _with_jax(spread: Spread, variant: str, runs: Sequence[Run]) -> Spread:
    """The error of the Flax reference itself, where it ran."""
    jax = {
        f"{run.precision}/{run.device}": run.relative.rms
        for run in runs
        if run.backend == "flax" and run.variant == variant and run.relative
    }
    return spread.model_copy(update={"jax": jax})


def _with_ratio(run: Run, spread: Spread) -> Run:
    """RMS error over that of what it is compared with."""
    reference = judging.reference_error(run, spread)
    known = run.relative and run.relative.rms is not None and reference
    return run.model_copy(update={"ratio": run.relative.rms / reference}) if known else run


def _beside_cpu(run: Run, pairs: Sequence[Pair]) -> Run:
    """A run on a GPU with its difference from the same backend on the CPU, where both ran."""
    twin = f"{run.id.rpartition('/')[0]}/cpu"
    found = next((pair for pair in pairs if {pair.a, pair.b} == {run.id, twin} and run.id != twin), None)
    return (
        run.model_copy(update={"noise": run.noise.model_copy(update={"cpu": found.max})})
        if found and run.noise
        else run
    )


def _required(runs: list[Run], named: bool) -> list[Run]:
    """No backend named: then every artifact must have been run by somebody, at each precision and on each device asked
    for that any backend could give it; where none could at all, nobody is excused."""
    if named:
        return runs
    waited_for = orphans(runs)
    return [run.model_copy(update={"required": True}) if run.id in waited_for else run for run in runs]


def _pairs(runs: Sequence[Run], outcomes: Sequence[Outcome], truths: dict[str, Truth]) -> Iterator[Pair]:
    """Every two runs that are compared."""
    there = [(run, outcome.result) for run, outcome in zip(runs, outcomes, strict=True) if run.status == "RAN"]
    for (a, one), (b, other) in combinations(there, 2):
        if beside(a, b):
            yield pair(a, b, (one.arrays["outputs"], other.arrays["outputs"]), truths[a.variant])
