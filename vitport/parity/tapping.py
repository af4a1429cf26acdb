"""The tasks of a bisection's children: intermediates of the oracle, of good float32 and of a backend; and the cause.

Each leaves an .npz of what it found. The names of taps are those of the definition.
"""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType

import numpy as np

from vitport import formats, runners, yardstick
from vitport.architectures import TAPS, Architecture
from vitport.arrays import Taps
from vitport.backend_table import BACKENDS
from vitport.faults import causes
from vitport.faults.causes import Question
from vitport.job_arguments import model_and_images, model_of, say
from vitport.parity.measuring import subject_of
from vitport.runners import Subject


def tap_oracle(job: dict) -> dict:
    """Every tap of Flax in float64, as far as the definition computes it."""
    say("importing jax and flax")
    formats.import_packages("the oracle", formats.ORACLE_PACKAGES)
    from vitport.reference import flax_run

    architecture, params, pixels = model_and_images(job)
    say("every step of the oracle in float64")
    return _left(job, as_defined(flax_run.run(architecture, params, pixels, "float64", taps=True), architecture))


def as_defined(taps: Taps, architecture: Architecture) -> Taps:
    """The reference runs its last block whole; past the block's first norm the definition has the class token alone."""
    block = f"encoderblock_{architecture.depth - 1}/"
    alone = {name for name in taps if name.startswith(block) and name != f"{block}LayerNorm_0"}
    return {name: tap[:, 0] if name in alone else tap for name, tap in taps.items()}


def tap_yardstick(job: dict) -> dict:
    """Every tap of NumPy in float32, all draws of it: what rounding does."""
    return _left(job, yardstick.run(*model_and_images(job)))


def tap_backend(job: dict) -> dict:
    """The taps of a backend, or its outputs alone where it has none; and what its weights say."""
    row = BACKENDS[job["backend"]]
    say(f"importing {' and '.join(row.packages)}")
    module, subject, pixels = runners.module(row.name), subject_of(job), np.load(job["images"])
    say("running it")
    outputs = module.open(subject, "cpu", "float32")(pixels)
    taps, how = {}, "outputs alone"
    if hasattr(module, "taps"):
        say("every step of it")
        taps, how = module.taps(subject, pixels)
    weights = None
    if hasattr(module, "weights") and not subject.port:
        say("comparing its weights")
        weights = _weights(module, subject)
    return {"how": how, "weights": weights, **_left(job, {**taps, TAPS[subject.variant]: outputs})}


def _weights(module: ModuleType, subject: Subject) -> dict:
    """Leaves that are not what they should be, and the fault that makes all of them so, where there is one."""
    found, expected = module.weights(subject), module.expected(subject)
    different = runners.different_leaves(found, expected)
    planted = causes.in_weights(subject.architecture, expected, found) if different else None
    return {"different": different, "fault": planted and planted.fault.name, "sentence": planted and planted.sentence}


def explain(job: dict) -> dict:
    """The likely cause, from outputs alone: in the first block that differs, and where that is not it, anywhere."""
    architecture, params = model_of(job)
    with np.load(job["question"]) as file:
        outputs, truth = file["outputs"], file["truth"]
    question = Question(
        architecture=architecture,
        params=params,
        images=np.load(job["images"]),
        variant=job["variant"],
        outputs=outputs,
        truth=truth,
        rounding=job["rounding"],
        block=job["block"],
    )
    ranked = causes.explain(question, _tell)
    if question.block is not None and not (ranked and causes.names(ranked[0], question)):
        question = replace(question, block=None)
        ranked = causes.explain(question, _tell)
    best = [{"faults": [p.fault.name for p in c.planted], "sentence": c.sentence, "left": c.ratio} for c in ranked[:5]]
    named = bool(ranked) and causes.names(ranked[0], question)
    return {"verdict": causes.verdict(question, ranked), "named": named, "causes": best}


def _tell(done: int, total: int, sentence: str) -> None:
    say(f"{done + 1} of {total}: {sentence}")


def _left(job: dict, taps: Taps) -> dict:
    np.savez(job["outputs"], **taps)
    return {"outputs": str(job["outputs"])}


TASKS: dict[str, Callable[[dict], dict]] = {
    "tap_oracle": tap_oracle,
    "tap_yardstick": tap_yardstick,
    "tap_backend": tap_backend,
    "explain": explain,
}
