"""The verdict: a pure function of a report's numbers and a policy.

PASS only where everything that is required ran and every gate passed. What was not measured is NOT RUN, never a pass; a
number that is NaN (null in the report) fails.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date

from vitport.errors import BackendError, EnvironmentFault, ParityError
from vitport.parity.gate_rules import GATES, REFERENCES, Rule
from vitport.parity.gradient_parts import smooth
from vitport.parity.policy import Policy
from vitport.parity.report_schema import Gate, Judgement, Report, Spread
from vitport.parity.run_schema import Gradients, Run

ENVIRONMENT_CAUSES = ("environment", "device", "precision", "inapplicable")
"""Causes that end in exit code 6; the others end in 5."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A number for a gate: what was measured, and of which scale the rule's limit is a multiple; None if it was NaN.

    floored: whether the rule's floor counts.
    """

    value: int | float | None
    scale: float | None = 1.0
    floored: bool = False
    detail: str = ""


def judge(report: Report, policy: Policy, today: date | None = None) -> Judgement:
    """Every gate on every run, and the verdict and exit code that follow. today: for rules that expire."""
    today = today or date.today()
    gates = [gate for variant in report.references for gate in _definition(variant, report, policy, today)]
    runs = {}
    for run in report.runs:
        found = list(_gates(run, report, policy, today))
        runs[run.id] = _verdict(found)
        gates += found
    missing = _missing(report, policy)
    gates += missing
    code = _exit_code(report, policy, gates, runs, missing)
    return Judgement(
        verdict={0: "PASS", ParityError.exit_code: "FAIL"}.get(code, "NOT RUN"),
        exit_code=code,
        policy=policy.facts(),
        policy_sha256=policy.digest,
        gates=gates,
        runs=runs,
    )


def judged(report: Report, policy: Policy, today: date | None = None) -> Report:
    """The same numbers under this policy's judgement."""
    return report.model_copy(update={"judgement": judge(report, policy, today)})


def numeric_limit(run: Run, report: Report, policy: Policy, today: date) -> float | None:
    """What `numeric` allows this run, relative to the spread; None where there is no reference."""
    rule, scale = _rule("numeric", run, report, policy, today), reference_error(run, report.references[run.variant])
    return None if rule is None or scale is None else max(rule.limit * scale, rule.floor)


def reference_error(run: Run, spread: Spread) -> float | None:
    """RMS error, relative, of what a run is compared with.

    It is NumPy's in float32 and TF32, else that of Flax at the run's precision on its device. In TF32 XLA may leave
    convolutions in float32, so that Flax is no reference there.
    """
    if run.precision == "float32":
        return spread.yardstick
    if run.precision == "tf32" and spread.tf32 is not None:
        return spread.tf32
    return spread.jax.get(f"{run.precision}/{run.device}")


def _gates(run: Run, report: Report, policy: Policy, today: date) -> Iterator[Gate]:
    if run.status == "NOT RUN":
        yield _not_run(run.id, "ran", run.reason)
        return
    found = _measured(run, report, policy, today)
    for name in GATES:
        rule = _rule(name, run, report, policy, today)
        if rule is None or name == "definition":
            continue
        if name in found:
            yield _held(run.id, rule, found[name], _lapsed(name, run, report, policy, today))
        elif rule.required:
            yield _not_run(run.id, name, f"{GATES[name]}: was not measured")


def _measured(run: Run, report: Report, policy: Policy, today: date) -> dict[str, Measured]:
    """What there is for the gates, by their names."""
    spread, limit = report.references[run.variant], numeric_limit(run, report, policy, today)
    relative = run.relative.rms if run.relative else None
    found = {
        "nonfinite": Measured(run.nonfinite),
        "numeric": Measured(relative, reference_error(run, spread), True),
    }
    unexplained = sum(not flip.explained for flip in run.flips)
    if unexplained or not run.nonfinite:  # no flip is no finding where images have no best output
        found["flips"] = Measured(unexplained)
    if run.weights:
        found["weights"] = Measured(run.weights.count, detail=", ".join(run.weights.different[:3]))
    if run.labels:
        found["labels"] = Measured(run.labels.count, detail=", ".join(map(str, run.labels.different[:3])))
    if run.preprocessing:
        found["preprocessing"] = Measured(run.preprocessing.count, detail="; ".join(run.preprocessing.different[:3]))
    if run.semantic:
        found["semantic"] = Measured(run.semantic.relative, detail=run.semantic.how)
    if run.noise:
        found["repeat"] = Measured(_over(run.noise.repeat.max, spread.spread), limit)
        if run.noise.batches:
            found["batches"] = Measured(_largest(_over(each.max, spread.spread) for each in run.noise.batches), limit)
    if run.gradients:
        lanes = _gradients(run.gradients, _stem(report))
        for gate, parts in lanes.items():
            rule = _rule(gate, run, report, policy, today)
            found[gate] = max(parts, key=lambda part: _excess(part, rule))
    return found


def _gradients(gradients: Gradients, stem: str) -> dict[str, list[Measured]]:
    """What there is for the two gates on gradients, part by part."""
    single = [
        Measured(part.relative, part.reference, True, part.name) for part in gradients.parts if smooth(part.name, stem)
    ]
    double = [Measured(part.semantic, detail=part.name) for part in gradients.parts if gradients.double]
    return {gate: parts for gate, parts in (("gradients", single), ("semantic_gradients", double)) if parts}


def _held(run: str, rule: Rule, measured: Measured, lapsed: Rule | None = None) -> Gate:
    """A number beside what its rule allows. Written so that NaN and null fail. lapsed: the rule before it expired."""
    value, limit = _finite(measured.value), _finite(_limit(measured, rule))
    passed = value is not None and limit is not None and value <= limit
    number = "not a number" if value is None else f"{value:.3g}"
    allowed = "nothing, as its reference is not a number" if limit is None else f"{limit:.3g}"
    detail = f" ({measured.detail})" if measured.detail else ""
    since = f"; until {lapsed.expires} a rule allowed {lapsed.limit:g}" if lapsed else ""
    return Gate(
        run=run,
        gate=rule.gate,
        verdict="PASS" if passed else "FAIL",
        measured=value,
        limit=limit,
        reason=f"{GATES[rule.gate]}: {number}{detail}, allowed {allowed}{since}",
        because=rule.because,
    )


def _finite(value: int | float | None) -> float | None:
    """A quotient or a product of finite numbers may be infinite, which a report has as null."""
    return float(value) if value is not None and math.isfinite(value) else None


def _limit(measured: Measured, rule: Rule) -> float | None:
    if measured.scale is None:
        return None
    return max(rule.limit * measured.scale, rule.floor if measured.floored else 0.0)


def _excess(measured: Measured, rule: Rule | None) -> float:
    """By which factor a number is beyond its limit; infinite for NaN."""
    limit = rule and _limit(measured, rule)
    if measured.value is None or limit is None:
        return math.inf
    return measured.value / limit if limit else math.inf if measured.value else 0.0


def _rule(gate: str, run: Run, report: Report, policy: Policy, today: date) -> Rule | None:
    return policy.rule(gate, today, **_about(run, report))


def _lapsed(gate: str, run: Run, report: Report, policy: Policy, today: date) -> Rule | None:
    return policy.lapsed(gate, today, **_about(run, report))


def _about(run: Run, report: Report) -> dict[str, str]:
    """What rules are chosen by."""
    facts = {"backend": run.backend, "precision": run.precision, "device": run.device, "variant": run.variant}
    return {**facts, "stem": _stem(report)}


def _definition(variant: str, report: Report, policy: Policy, today: date) -> Iterator[Gate]:
    """The two witnesses of one variant."""
    about = {"backend": REFERENCES, "precision": "float32", "device": "cpu", "variant": variant, "stem": _stem(report)}
    rule = policy.rule("definition", today, **about)
    if rule:
        yield _held(f"{REFERENCES}/{variant}", rule, Measured(report.references[variant].definition))


def _stem(report: Report) -> str:
    return "hybrid" if report.architecture.get("resnet") else "plain"


def _missing(report: Report, policy: Policy) -> list[Gate]:
    """Backends that the policy requires and that never ran, and a report without a run."""
    there = {run.backend for run in report.runs if run.status == "RAN"}
    gates = [_not_run(name, "ran", f"the policy requires {name}") for name in policy.required if name not in there]
    if not any(run.status == "RAN" for run in report.runs):
        gates.append(_not_run("runs", "ran", "nothing ran"))
    return gates


def _needed(run: Run, policy: Policy) -> bool:
    """Whether the verdict waits for a run: for one that ran, all that is required of it must have been measured.

    A policy that requires a backend excuses it from what it can't do alone.
    """
    return run.status == "RAN" or run.required or (run.backend in policy.required and run.cause != "inapplicable")


def _exit_code(report: Report, policy: Policy, gates: Iterable[Gate], runs: dict[str, str], missing: list[Gate]) -> int:
    """A failure outweighs what did not run, and that outweighs a package that is missing."""
    if any(gate.verdict == "FAIL" for gate in gates):
        return ParityError.exit_code
    needed = [run for run in report.runs if _needed(run, policy) and runs[run.id] == "NOT RUN"]
    if any(run.cause not in ENVIRONMENT_CAUSES for run in needed):
        return BackendError.exit_code
    return EnvironmentFault.exit_code if needed or missing else 0


def _verdict(gates: list[Gate]) -> str:
    verdicts = {gate.verdict for gate in gates}
    return next((each for each in ("FAIL", "NOT RUN") if each in verdicts), "PASS")


def _not_run(run: str, gate: str, reason: str) -> Gate:
    return Gate(run=run, gate=gate, verdict="NOT RUN", measured=None, limit=None, reason=reason)


def _over(value: float | None, spread: float | None) -> float | None:
    return None if value is None or not spread else value / spread


def _largest(values: Iterable[float | None]) -> float | None:
    """The largest; None where one is."""
    found = list(values)
    return None if None in found else max(found)
