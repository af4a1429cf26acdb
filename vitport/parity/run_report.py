"""A result as a report has it: numbers where a trial ran, a cause and what to do where it did not."""

import numpy as np

from vitport.errors import EnvironmentFault, Hung, OutOfMemory, VitportError, WrongDevice, WrongPrecision
from vitport.jobs import SAID
from vitport.metrics import error
from vitport.parity.bench import Result, Untrusted
from vitport.parity.comparison import Truth, number, numbers
from vitport.parity.loss import LOSSES
from vitport.parity.run_schema import (
    BatchNoise,
    Gradient,
    Gradients,
    Labels,
    Noise,
    Preprocessing,
    Run,
    Semantic,
    Speed,
    Weights,
)
from vitport.parity.trials import Trial
from vitport.runners import Absent, Inapplicable

CAUSES = (
    (Absent, "absent"),
    (Inapplicable, "inapplicable"),
    (WrongDevice, "device"),
    (WrongPrecision, "precision"),
    (EnvironmentFault, "environment"),
    (Hung, "timeout"),
    (OutOfMemory, "memory"),
    (VitportError, "crashed"),
)
"""Kind of an error to the cause that the report names; the first that fits counts."""


def did_not_run(trial: Trial, problem: VitportError) -> Run:
    """A trial without numbers."""
    lines = str(problem).splitlines()
    log = [line.removeprefix(SAID) for line in lines if line.startswith(SAID)]
    reason = "\n".join(line for line in lines if not line.startswith(SAID))
    return Run(**_head(trial), status="NOT RUN", cause=_cause(problem), reason=reason, log=log)


def ran(trial: Trial, result: Result, truth: Truth) -> Run:
    """A trial with all its numbers; NOT RUN where its outputs have another shape than the oracle's."""
    facts, outputs = result.facts, result.arrays["outputs"]
    try:
        found = numbers(outputs, truth)
    except ValueError as problem:
        return Run(**_head(trial), status="NOT RUN", cause="shape", reason=str(problem))
    return Run(
        **_head(trial),
        status="RAN",
        reused=result.reused,
        facts=facts["facts"],
        fed=facts["fed"],
        outputs=facts["sha256"],
        speed=Speed(**facts["speed"], wall=facts["wall"]),
        **found,
        **_thorough(trial, result, truth),
    )


def _cause(problem: VitportError) -> str:
    if isinstance(problem, Untrusted):
        return problem.cause
    return next(cause for kind, cause in CAUSES if isinstance(problem, kind))


def _head(trial: Trial) -> dict:
    return {
        "id": trial.id,
        "backend": trial.name,
        "variant": trial.variant,
        "precision": trial.precision,
        "device": trial.device,
        "required": trial.required,
    }


def _thorough(trial: Trial, result: Result, truth: Truth) -> dict:
    """What was measured beside the outputs."""
    facts, found = result.facts, {}
    if "noise" in facts:
        repeat, *others = (BatchNoise(**each) for each in (facts["noise"]["repeat"], *facts["noise"]["batches"]))
        found["noise"] = Noise(repeat=repeat, batches=others)
    if "weights" in facts:
        found["weights"] = Weights(**facts["weights"])
    if "labels" in facts:
        found["labels"] = Labels(**facts["labels"])
    if "preprocessing" in facts:
        found["preprocessing"] = Preprocessing(**facts["preprocessing"])
    if "how" in facts:
        found["semantic"] = Semantic(relative=_relative(result.arrays["semantic"], truth), how=facts["how"])
    if "gradients" in facts:
        loss, parts = LOSSES[trial.variant], _parts(facts["gradients"], facts["gradients_reference"])
        found["gradients"] = Gradients(loss=loss, images=len(truth.fixed), parts=parts, double=True)
    return found


def _parts(errors: dict[str, dict[str, float]], reference: dict[str, float]) -> list[Gradient]:
    """errors: by dtype and part of the network. reference: those of Flax in float32."""
    return [
        Gradient(
            name=name,
            relative=number(single),
            reference=number(reference[name]),
            semantic=number(errors["float64"][name]),
        )
        for name, single in errors["float32"].items()
    ]


def _relative(outputs: np.ndarray, truth: Truth) -> float | None:
    """RMS difference on the fixed images; null for another shape."""
    return number(error(outputs, truth.fixed).relative) if outputs.shape == truth.fixed.shape else None
