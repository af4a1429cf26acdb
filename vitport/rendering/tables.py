"""The tables of a report, as cells of plain text: the pages differ only in how they draw them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from vitport.parity.report_schema import Gate, Report
from vitport.parity.run_schema import BatchNoise, Flip, Gradient, Run
from vitport.rendering import summary
from vitport.rendering.summary import factor, number, percent
from vitport.wording import micro, size

Kind = Literal["text", "code", "number", "verdict"]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what its cells hold."""

    heading: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class Table:
    """A title, columns, rows of as many cells, and a sentence on how to read it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    scale: float | None = None
    """Of a matrix of errors: what a good one would be."""


NOTHING = "–"
"""A cell without a value."""

RUN = (Column("backend", "code"), Column("variant"), Column("precision"), Column("device"))


def open_gates(report: Report) -> Table:
    """What did not pass, the failures first. Runs without numbers have a table of their own, `not_run`."""
    listed = {run.id for run in _not_run(report)}
    columns = (Column("verdict", "verdict"), Column("run", "code"), Column("gate"))
    columns += (Column("measured", "number"), Column("limit", "number"), Column("reason"))
    rows = tuple(
        (gate.verdict, gate.run, gate.gate, _or_nothing(gate.measured, gate.limit), _limit(gate.limit), _reason(gate))
        for gate in summary.open_gates(report)
        if gate.run not in listed
    )
    return Table("What did not pass", columns, rows)


def _or_nothing(measured: float | None, limit: float | None) -> str:
    return NOTHING if measured is None and limit is None else number(measured)


def _limit(limit: float | None) -> str:
    return NOTHING if limit is None else number(limit)


def _reason(gate: Gate) -> str:
    return summary.brief(gate.reason)


def gates(run: Run, report: Report) -> Table:
    """The conditions on one run."""
    columns = (Column("gate"), Column("verdict", "verdict"), Column("measured", "number"), Column("limit", "number"))
    rows = tuple(
        (gate.gate, gate.verdict, _or_nothing(gate.measured, gate.limit), _limit(gate.limit), _reason(gate))
        for gate in summary.verdicts_of(run, report.judgement.gates)
    )
    return Table(f"Gates of {summary.name(run)}", (*columns, Column("reason")), rows)


def not_run(report: Report) -> Table:
    """Runs without numbers and what to do about them, those that are required first; a row for each reason."""
    columns = (Column("backends"), Column("runs"), Column("required"), Column("cause"), Column("reason"))
    alike: dict[tuple[str, ...], list[Run]] = {}
    for run in sorted(_not_run(report), key=lambda run: not run.required):
        why = ("yes" if run.required else "no", run.cause or NOTHING, summary.brief(run.reason) or NOTHING)
        alike.setdefault((run.backend, *why), []).append(run)
    together: dict[tuple[str, ...], list[str]] = {}
    for (backend, *why), group in alike.items():
        together.setdefault((_places(group), *why), []).append(backend)
    rows = tuple((", ".join(backends), *rest) for rest, backends in together.items())
    return Table("What did not run", columns, rows, "Not measured is never a pass: what is required must run.")


def _not_run(report: Report) -> list[Run]:
    return [run for run in report.runs if run.status == "NOT RUN"]


def _places(group: list[Run]) -> str:
    """`classifier, features: float32 cuda, tf32 cuda`: variants, and where each was to run."""
    places: dict[tuple[str, ...], list[str]] = {}
    for variant, runs in groupby(sorted(group, key=lambda run: run.variant), key=lambda run: run.variant):
        places.setdefault(tuple(f"{run.precision} {run.device}" for run in runs), []).append(variant)
    return "; ".join(f"{', '.join(variants)}: {', '.join(where)}" for where, variants in places.items())


MEASURES: tuple[tuple[Column, Callable[[Run], str | None]], ...] = (
    (Column("RMS ÷ spread, 10⁻⁶", "number"), lambda run: run.relative and micro(run.relative.rms)),
    (Column("× reference", "number"), lambda run: factor(run.ratio)),
    (Column("max abs Δ", "number"), lambda run: run.error and number(run.error.max)),
    (Column("not finite", "number"), lambda run: run.nonfinite is not None and f"{run.nonfinite:,}"),
    (Column("top-1", "number"), lambda run: _agreement(run)),
    (Column("flips unexplained", "number"), lambda run: _flips(run)),
    (Column("float64 ÷ spread", "number"), lambda run: run.semantic and number(run.semantic.relative)),
    (Column("weights", "number"), lambda run: _weights(run)),
    (Column("worst gradient", "number"), lambda run: _gradient(run)),
    (Column("images/s", "number"), lambda run: run.speed and number(run.speed.rate)),
    (Column("memory", "number"), lambda run: run.speed and size(run.speed.memory)),
)
"""Of each run: the column and what it shows; falsy where there is nothing."""


def runs(report: Report) -> Table:
    """Every run and its numbers."""
    columns = (*RUN, Column("verdict", "verdict"), *(column for column, _ in MEASURES))
    rows = tuple(
        (*_labels(run), summary.verdict(report, run), *(show(run) or NOTHING for _, show in MEASURES))
        for run in report.runs
    )
    note = (
        "RMS error to the oracle, Flax in float64, in millionths of the spread of its outputs, and as a multiple of "
        "the reference's own error at that precision; max abs Δ in units of the output. In brackets: with 95 % "
        "confidence a smaller share of such images changes its class. float64: the same artifact in double precision, "
        "where only another function differs."
    )
    return Table("Every run", columns, rows, note)


def _labels(run: Run) -> tuple[str, ...]:
    return run.backend, run.variant, run.precision, run.device


def _agreement(run: Run) -> str | None:
    return run.top1 and f"{run.top1.agree:,}/{run.top1.count:,} (< {percent(run.top1.bound)})"


def _flips(run: Run) -> str | None:
    return run.top1 and f"{sum(not flip.explained for flip in run.flips)} of {len(run.flips)}"


def _weights(run: Run) -> str | None:
    if run.weights is None:
        return None
    return f"{run.weights.count} of {run.weights.leaves} differ" if run.weights.count else f"{run.weights.leaves} equal"


def _gradient(run: Run) -> str | None:
    """The part whose gradient is farthest from Flax in float64, as a multiple of Flax in float32."""
    parts = run.gradients.parts if run.gradients else []
    if not parts:
        return None
    worst = max(parts, key=lambda part: float("inf") if part.relative is None else part.relative)
    return f"{worst.name} {number(worst.relative)}"


def _steepest(run: Run) -> str:
    """The largest difference in float64, in millionths."""
    if not run.gradients.double:
        return NOTHING
    found = [part.semantic for part in run.gradients.parts]
    return micro(None if None in found else max(found))


def references(report: Report) -> Table:
    """What the runs are judged by."""
    columns = (Column("variant"), Column("spread", "number"), Column("definition in float64", "number"))
    columns += (Column("NumPy float32, 10⁻⁶", "number"), Column("NumPy TF32, 10⁻⁶", "number"))
    columns += (Column("JAX itself, 10⁻⁶"),)
    rows = tuple(
        (
            variant,
            number(each.spread),
            number(each.definition),
            micro(each.yardstick),
            NOTHING if each.tf32 is None else micro(each.tf32),
            ", ".join(f"{where} {micro(value)}" for where, value in each.jax.items()) or NOTHING,
        )
        for variant, each in report.references.items()
    )
    note = "Spread: the standard deviation of the oracle's outputs. The others: RMS errors, divided by it."
    return Table("References", columns, rows, note)


def pairs(report: Report) -> list[Table]:
    """Backends beside each other and beside the oracle, a table for each variant, precision and device."""
    return [_matrix(title, group, report) for title, group in summary.alike(summary.ran(report))]


ORACLE = "oracle"


def _matrix(title: str, group: list[Run], report: Report) -> Table:
    """RMS differences of every two of a group, in millionths of the spread."""
    known = {frozenset((pair.a, pair.b)): micro(pair.relative) for pair in report.pairs}
    columns = (Column("", "code"), Column(ORACLE, "number"), *(Column(run.backend, "number") for run in group))
    rows = tuple(
        (
            a.backend,
            micro(a.relative and a.relative.rms),
            *("0" if a.id == b.id else known.get(frozenset((a.id, b.id)), NOTHING) for b in group),
        )
        for a in group
    )
    return Table(title, columns, rows, scale=next(filter(None, map(summary.reference, group)), None))


OF_GRADIENTS = "RMS difference from Flax in float64, in millionths of each gradient's own RMS."
"""What all tables of gradients hold."""


def gradients(report: Report) -> list[Table]:
    """Parts of the network down, backends across, for each variant, precision and device."""
    having = [run for run in summary.ran(report) if run.gradients]
    return [_gradients(title, group) for title, group in summary.alike(having)]


def _gradients(title: str, group: list[Run]) -> Table:
    names = list(dict.fromkeys(part.name for run in group for part in run.gradients.parts))
    known = {run.id: {part.name: part for part in run.gradients.parts} for run in group}
    reference = {part.name: micro(part.reference) for run in group for part in run.gradients.parts}
    columns = (Column("part", "code"), Column("JAX float32", "number"))
    columns += tuple(Column(run.backend, "number") for run in group)
    rows = tuple((name, reference[name], *(_part(known[run.id].get(name)) for run in group)) for name in names)
    if any(run.gradients.double for run in group):
        rows += (("worst in float64", NOTHING, *map(_steepest, group)),)
    first = group[0].gradients
    note = f"Loss: {first.loss}, on {summary.many(first.images, 'image')}."
    return Table(title, columns, rows, note)


def _part(gradient: Gradient | None) -> str:
    return NOTHING if gradient is None else micro(gradient.relative)


def noise(report: Report) -> Table:
    """How far each backend is from itself."""
    columns = (*RUN, Column("again", "number"), Column("other batches"), Column("CPU to GPU", "number"))
    rows = tuple(
        (
            *_labels(run),
            _noise(run.noise.repeat),
            ", ".join(f"{each.batch}: {_noise(each)}" for each in run.noise.batches) or NOTHING,
            NOTHING if run.noise.cpu is None else number(run.noise.cpu),
        )
        for run in summary.ran(report)
        if run.noise
    )
    return Table(
        "Noise", columns, rows, "Largest difference of a run from the same run done otherwise, in units of the output."
    )


def _noise(noise: BatchNoise) -> str:
    return "bit-equal" if noise.bit_equal else number(noise.max)


def said(report: Report) -> Table:
    """What the frameworks said of themselves."""
    rows = tuple(
        (*_labels(run), ", ".join(f"{key} {value}" for key, value in run.facts.items()), "yes" if run.reused else "no")
        for run in summary.ran(report)
    )
    columns = (*RUN, Column("device, provider, precision, threads"), Column("reused"))
    note = (
        "Read back from each framework in its own process. Reused: the outputs of an earlier run of the same files on "
        "the same images."
    )
    return Table("What the frameworks said", columns, rows, note)


def identity(report: Report) -> Table:
    """All that another person needs to do it again."""
    known, machine = report.identity, report.machine
    rows: list[tuple[str, str, str]] = [
        ("manifest", known.manifest.path, known.manifest.sha256),
        ("checkpoint", known.asset.path, known.asset.sha256),
    ]
    if known.artifacts:
        rows.append(("artifacts", known.artifacts.path, known.artifacts.sha256))
    rows += [(f"{each.name}, {each.variant}", each.path, each.sha256) for each in known.subjects]
    rows += [
        ("images", str(summary.images(report)), known.images.sha256),
        ("policy", str(report.judgement.policy.get("name", "unnamed")), report.judgement.policy_sha256),
        ("seeds", _listed(known.seeds), ""),
        ("versions", _listed(machine.versions), ""),
        ("machine", str(summary.machine(report)), ""),
        ("processor", machine.processor, ""),
        ("when", report.created, ""),
    ]
    return Table("Identity", (Column("what"), Column("which"), Column("SHA-256", "code")), tuple(rows))


def _listed(values: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items()) or NOTHING


def worst(run: Run) -> Iterable[Table]:
    """The worst images of a run with their logits, a table each."""
    columns = (Column("class", "number"), Column("oracle", "number"), Column("found", "number"), Column("Δ", "number"))
    for image in run.worst:
        rows = tuple(
            (str(index), _logit(oracle), _logit(found), _difference(found, oracle))
            for index, oracle, found in zip(image.classes, image.oracle, image.found, strict=False)
        )
        yield Table(f"{image.image}: Δ {number(image.delta)}", columns, rows)


def _logit(value: float | None) -> str:
    return "NaN" if value is None else f"{value:.6g}"


def _difference(found: float | None, oracle: float | None) -> str:
    return "NaN" if found is None or oracle is None else f"{found - oracle:+.2g}"


def flips(run: Run) -> Table:
    """The images of a run whose class is another."""
    columns = (Column("image", "code"), Column("oracle", "number"), Column("found", "number"))
    columns += (Column("margin", "number"), Column("max abs Δ", "number"), Column("explained"))
    rows = tuple(
        (flip.image, str(flip.expected), str(flip.found), number(flip.margin), number(flip.delta), _explained(flip))
        for flip in run.flips
    )
    note = (
        "Explained: the margin is less than twice the difference. A flip without is impossible: the harness would be "
        "wrong."
    )
    return Table("Flips", columns, rows, note)


def _explained(flip: Flip) -> str:
    return "yes" if flip.explained else "NO"
