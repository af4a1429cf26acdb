"""Faults of a run: of what a backend answers, whatever its artifact is."""

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from vitport.arrays import Images, Logits, shortened, softmax

Infer = Callable[[Images], tuple[Logits, str]]


@dataclass(frozen=True, slots=True)
class Slip:
    """A fault of a run: of what a backend answers, whatever its artifact is.

    way: what of the backend's module gives the runners that answer so. backends: that have it; empty means all.
    """

    name: str
    sentence: str
    change: Callable[[Infer], Infer]
    way: str = "open"
    backends: tuple[str, ...] = ()


def _of_outputs(change: Callable[[Logits], Logits]) -> Callable[[Infer], Infer]:
    def planted(infer: Infer) -> Infer:
        def wrong(images: Images) -> tuple[Logits, str]:
            outputs, where = infer(images)
            return change(outputs.copy()), where

        return wrong

    return planted


def _one_nan(outputs: Logits) -> Logits:
    outputs[-1, 0] = np.nan
    return outputs


def _leaking(outputs: Logits) -> Logits:
    """Images of a batch see each other."""
    return outputs + np.float32(1e-3) * (outputs.mean(axis=0) - outputs)


def _larger(outputs: Logits) -> Logits:
    return outputs * np.float32(1.001)


def _unsteady(infer: Infer) -> Infer:
    """As with dropout left on: every answer is another, the first the right one."""
    calls: list[int] = []

    def wrong(images: Images) -> tuple[Logits, str]:
        outputs, where = infer(images)
        calls.append(1)
        return outputs + np.float32(1e-3) * (len(calls) - 1), where

    return wrong


def _elsewhere(infer: Infer) -> Infer:
    return lambda images: (infer(images)[0], "gpu: another device")


SLIPS = MappingProxyType(
    {
        slip.name: slip
        for slip in (
            Slip("nan_output", "one output is NaN", _of_outputs(_one_nan)),
            Slip("infinite_output", "an output is infinite", _of_outputs(lambda y: np.where(y == y.max(), np.inf, y))),
            Slip("images_reordered", "outputs come in another order", _of_outputs(lambda y: y[::-1])),
            Slip("first_image_only", "every image gets the outputs of the first", _of_outputs(lambda y: y[:1] + 0 * y)),
            Slip("zeros", "all outputs are zero", _of_outputs(np.zeros_like)),
            Slip("class_missing", "the last class is missing", _of_outputs(lambda y: y[:, :-1])),
            Slip("one_row", "one row comes for a batch", _of_outputs(lambda y: y.mean(axis=0, keepdims=True))),
            Slip("probabilities", "outputs went through a softmax", _of_outputs(softmax)),
            Slip("rounded_outputs", "outputs went through bfloat16", _of_outputs(lambda y: shortened(y, 16))),
            Slip("leaking_batch", "images of a batch see each other", _of_outputs(_leaking)),
            Slip("unsteady", "a repeated run gives other outputs", _unsteady),
            Slip("elsewhere", "it was computed on another device", _elsewhere),
            Slip(
                "call_otherwise",
                "a call gives other outputs than the signature",
                _of_outputs(_larger),
                way="ways",
                backends=("saved_model",),
            ),
        )
    }
)
"""Name → fault of a run."""
