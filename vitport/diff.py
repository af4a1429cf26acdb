"""`vitport diff`: a report beside the last accepted one. What got worse is a regression; the rest is shown, not judged.

What a file says of itself is not believed: both reports are judged again, each by the policy that it holds.

A regression is: a verdict or a gate that passed and does not pass now, a run that is gone, an RMS error that grew by
more than `GROWTH` beyond what the backend differs from itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

from vitport.errors import AssetError
from vitport.fields import shown
from vitport.parity import policy, report_file
from vitport.parity.judging import judged
from vitport.parity.report_schema import Gate, Report
from vitport.parity.run_schema import Run

GROWTH = 1.5
"""Two float32 programs of one function differ by less, most of the time; more needs a reason."""

GONE = "not there"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was otherwise. run: its id, or what of the report it is; what: a gate, `RMS`, a digest …"""

    run: str
    what: str
    was: str
    now: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ratio:
    """A run's images per second, peak memory and RMS error over what they were; None where either has none."""

    run: str
    rate: float | None
    memory: float | None
    error: float | None


@dataclass(frozen=True, slots=True)
class Difference:
    """All of it. incomparable: why the numbers are of two things. improved: gates that pass now and did not.
    rejudged: files whose verdict is another than they say."""

    old: Report
    new: Report
    incomparable: tuple[str, ...]
    regressions: tuple[Change, ...]
    improved: tuple[Change, ...]
    gained: tuple[str, ...]
    identity: tuple[Change, ...]
    ratios: tuple[Ratio, ...]
    rejudged: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """For scripts."""
        fields = ("incomparable", "rejudged", "regressions", "improved", "gained", "identity", "ratios")
        parts = {name: [_plain(each) for each in getattr(self, name)] for name in fields}
        verdict = {"was": self.old.judgement.verdict, "now": self.new.judgement.verdict}
        return {"regression": bool(self.regressions), "verdict": verdict, **parts}


def diff(old_path: Path, new_path: Path) -> Difference:
    """Compares two files, judged again. Raises AssetError for what is no report."""
    old, new = report_file.read(old_path), report_file.read(new_path)
    found = compared(_again(old, old_path), _again(new, new_path))
    told = ((old_path, old, found.old), (new_path, new, found.new))
    return replace(found, rejudged=tuple(_otherwise(path, was, now) for path, was, now in told if _differ(was, now)))


def _again(report: Report, path: Path) -> Report:
    """A report judged by its own policy, on the day that it is of: a rule that has expired since counted then."""
    try:
        rules, day = policy.of_report(report.judgement.policy), date.fromisoformat(report.created[:10])
    except ValueError as error:
        raise AssetError(f"{shown(str(path))} can't be judged again: its policy or its date is none") from error
    return judged(report, rules, day)


def _differ(was: Report, now: Report) -> bool:
    return was.judgement.verdict != now.judgement.verdict


def _otherwise(path: Path, was: Report, now: Report) -> str:
    said, found = was.judgement.verdict, now.judgement.verdict
    return f"{shown(str(path))} says {said}, but by its own numbers and policy it is {found}"


def compared(old: Report, new: Report) -> Difference:
    """Compares two reports."""
    pairs = [(was, now) for was in old.runs for now in new.runs if was.id == now.id]
    return Difference(
        old,
        new,
        incomparable=tuple(_incomparable(old, new)),
        regressions=(
            *_worse_verdict(old, new),
            *_lost(old, new),
            *_worse(old, new),
            *_grown(old, new, pairs),
        ),
        improved=tuple(_better(old, new)),
        gained=tuple(run.id for run in new.runs if run.id not in {run.id for run in old.runs}),
        identity=tuple(_identity(old, new)),
        ratios=tuple(_ratio(was, now) for was, now in pairs if was.speed and now.speed),
    )


def _incomparable(old: Report, new: Report) -> Iterator[str]:
    if old.identity.asset.sha256 != new.identity.asset.sha256:
        yield "the checkpoints are different"
    if old.identity.images.sha256 != new.identity.images.sha256:
        yield "the images are different"


def _gates(report: Report) -> dict[tuple[str, str], Gate]:
    """By run and name."""
    return {(gate.run, gate.gate): gate for gate in report.judgement.gates}


def _worse_verdict(old: Report, new: Report) -> Iterator[Change]:
    was, now = old.judgement.verdict, new.judgement.verdict
    if was == "PASS" != now:
        yield Change("report", "verdict", was, now)


def _lost(old: Report, new: Report) -> Iterator[Change]:
    """Runs that had numbers and have none: gone, or not run."""
    there = {run.id: run for run in new.runs}
    for run in old.runs:
        now = there.get(run.id)
        if run.status == "RAN" and (now is None or now.status == "NOT RUN"):
            yield Change(run.id, "ran", "RAN", "NOT RUN" if now else GONE, now.reason if now else "")


def _worse(old: Report, new: Report) -> Iterator[Change]:
    """Gates that passed, but for those of lost runs; one that is not there any more passes no more."""
    lost = {run.id for run in old.runs} - {run.id for run in new.runs if run.status == "RAN"}
    after = _gates(new)
    for (run, name), gate in _gates(old).items():
        now = after.get((run, name))
        if gate.verdict == "PASS" and run not in lost and (now is None or now.verdict != "PASS"):
            yield Change(run, name, "PASS", now.verdict if now else GONE, now.reason if now else "")


def _better(old: Report, new: Report) -> Iterator[Change]:
    after = _gates(new)
    for (run, name), gate in _gates(old).items():
        now = after.get((run, name))
        if gate.verdict != "PASS" and now and now.verdict == "PASS":
            yield Change(run, name, gate.verdict, "PASS", now.reason)


def _grown(old: Report, new: Report, pairs: Sequence[tuple[Run, Run]]) -> Iterator[Change]:
    """RMS errors that grew beyond noise. Written so that NaN has grown."""
    for was, now in pairs:
        before, after = _rms(was), _rms(now)
        if before is None or now.status == "NOT RUN":
            continue
        noise = max(_noise(was, old), _noise(now, new))
        if after is None or not after <= GROWTH * before + noise:
            yield Change(now.id, "RMS", _number(before), _number(after), _factor(before, after))


def _factor(before: float, after: float | None) -> str:
    if after is None:
        return "no number any more"
    return f"{after / before:.3g} times" if before else "it was exact"


def _rms(run: Run) -> float | None:
    return run.relative.rms if run.relative else None


def _noise(run: Run, report: Report) -> float:
    """By how much two runs of the same differ at most, over the spread."""
    spread = report.references[run.variant].spread if run.variant in report.references else None
    return run.noise.repeat.max / spread if run.noise and run.noise.repeat.max and spread else 0.0


def _identity(old: Report, new: Report) -> Iterator[Change]:
    """What is another than it was: files, images, policy, versions, machine."""
    was, now = _facts(old), _facts(new)
    for key in dict.fromkeys((*was, *now)):
        if was.get(key) != now.get(key):
            yield Change(*key, was.get(key, GONE), now.get(key, GONE))


def _facts(report: Report) -> dict[tuple[str, str], str]:
    """(part, name) → what it is."""
    known, machine = report.identity, report.machine
    digests = {"manifest": known.manifest.sha256, "checkpoint": known.asset.sha256, "images": known.images.sha256}
    digests["artifacts"] = known.artifacts.sha256 if known.artifacts else GONE
    digests["policy"] = report.judgement.policy_sha256
    subjects = {f"{each.name} {each.variant}": each.sha256 for each in known.subjects}
    place = {"processor": machine.processor, "gpu": machine.gpu or "none", "platform": machine.platform}
    parts = {"digest": digests, "artifact": subjects, "version": machine.versions, "machine": place}
    parts["seed"] = {name: str(seed) for name, seed in known.seeds.items()}
    return {(part, name): value for part, facts in parts.items() for name, value in facts.items()}


def _ratio(was: Run, now: Run) -> Ratio:
    return Ratio(
        now.id,
        _over(now.speed.rate, was.speed.rate),
        _over(now.speed.memory, was.speed.memory),
        _over(_rms(now), _rms(was)),
    )


def _over(now: int | float | None, was: int | float | None) -> float | None:
    return now / was if now is not None and was else None


def _number(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.3g}"


def _plain(part: object) -> object:
    return part if isinstance(part, str) else asdict(part)
