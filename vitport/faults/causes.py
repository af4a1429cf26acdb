"""Why outputs are not the oracle's: the definition is run with each fault in it, until one gives what was returned.

A cause is named by what it leaves unexplained. With the right fault in the definition the difference between the two
falls to rounding; a wrong guess leaves as much as there was, or more. No table of error magnitudes is as sure, and
outputs alone suffice, so that a port of somebody else's can be explained too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np

from vitport.architectures import Architecture, parameter_shapes
from vitport.architectures.vit import embed, from_block
from vitport.arrays import Images, Logits, Params, bit_equal
from vitport.backends.foreign import words
from vitport.backends.numpy import Cast, NumPyOps
from vitport.faults import FAULTS, Fault, Planted
from vitport.metrics import spread

EXPLAINED = 0.05
"""Of the difference: a cause that leaves no more is named. Right ones measure 1e-5 to 1e-2, wrong ones 0.3 and more."""

NEAR = 0.9
"""A cause that leaves more of the difference than this is no help."""

LIKELY = 0.5
"""A cause that leaves no more is said to be likely."""

SIZE = 1.5
"""An erratic cause is said to be likely where the difference is within this factor of what it makes."""

PARTLY = 0.9
"""A cause that leaves no more is worth a second beside it."""

MOST = 3
"""Causes at once."""

SMALL = 1e-3
"""Of the spread: smaller differences are looked for in float64 from the start."""

CONFIRMED = 3
"""Best guesses of a search in float32 on one image that are measured in float64 on all."""

Progress = Callable[[int, int, str], None]
"""Told hypotheses run, hypotheses in all, and the one that comes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Outputs to be explained.

    params: the checkpoint's leaves. outputs, truth: what was returned and what the oracle returns for `images`.
    rounding: RMS error to the oracle of a right implementation at the same precision, in units of the output.
    block: the only block that may differ, where taps have shown it.
    """

    architecture: Architecture
    params: Params
    images: Images
    variant: str
    outputs: Logits
    truth: Logits
    rounding: float
    block: int | None = None

    @property
    def difference(self) -> float:
        """RMS difference from the oracle."""
        return _rms(self.outputs - self.truth)


@dataclass(frozen=True, slots=True)
class Cause:
    """Faults together.

    left: RMS difference between outputs and the definition with them in it; ratio: as a part of the difference from the
    oracle. size: RMS of what they do to the outputs, as a part of the same.
    """

    planted: tuple[Planted, ...]
    left: float
    ratio: float
    size: float

    @property
    def sentence(self) -> str:
        return " and ".join(each.sentence for each in self.planted)


def explain(question: Question, progress: Progress = lambda *told: None) -> list[Cause]:
    """Causes, the likeliest first; empty where outputs are not finite or differ by rounding alone.

    One fault at a time first; where the best leaves something, a second beside it, and a third.
    """
    if not isfinite(question.difference) or question.difference <= question.rounding:
        return []
    ranked = _round(question, (), progress)
    while _is_partial(ranked, question) and len(ranked[0].planted) < MOST:
        further = _round(question, ranked[0].planted, progress)
        if not further or further[0].left > ranked[0].left / 2:
            break
        ranked = [*further, *ranked]
    return ranked


def verdict(question: Question, causes: Sequence[Cause]) -> str:
    """One line: the cause, or honestly that there is none that is known."""
    wrong = int(question.outputs.size - np.isfinite(question.outputs).sum())
    if wrong:
        return f"{wrong} of {question.outputs.size} outputs are NaN or infinite"
    size = f"RMS difference {question.difference:.2g}, {question.difference / spread(question.truth):.1g} of the spread"
    if question.difference <= question.rounding:
        return f"nothing to explain: {size}, is rounding"
    if not causes:
        return f"no known cause explains it: {size}"
    best = causes[0]
    part = f"explains {_percent(1 - best.ratio)} of the difference"
    if names(best, question):
        return f"{best.sentence}: {part} (what is left is {best.left / question.rounding:.1f} × rounding)"
    if best.ratio <= LIKELY:
        return f"likely {best.sentence}: {part}; what is left has no known cause"
    for cause in causes:
        if cause.planted[-1].fault.erratic and 1 / SIZE <= cause.size <= SIZE:
            return f"likely {cause.sentence}: that makes differences {cause.size:.2f} times as large"
    nearest = f"; the nearest, {best.sentence}, {part}" if best.ratio <= NEAR else ""
    return f"no known cause explains it: {size}{nearest}"


def names(cause: Cause, question: Question) -> bool:
    """Whether a cause explains the difference, but for a twentieth of it or for rounding."""
    return cause.ratio <= EXPLAINED or (cause.left <= 2 * question.rounding and cause.ratio <= LIKELY)


def in_weights(architecture: Architecture, params: Params, found: Params) -> Planted | None:
    """The fault that makes of the checkpoint's leaves exactly those that were found; None where there is none."""
    if found.keys() != params.keys():
        return None
    different = [name for name in found if not bit_equal(params[name], found[name])]
    if not different:
        return None
    in_order = (*different, *(found.keys() - set(different)))
    for fault in FAULTS.values():
        for place in fault.places(architecture) if fault.weights else ():
            planted = fault.at(place)
            changed = planted.weights({name: params[name] for name in params})
            if all(bit_equal(changed[name], found[name]) for name in in_order):
                return planted
    return None


def _round(question: Question, base: tuple[Planted, ...], progress: Progress) -> list[Cause]:
    """Every fault beside those of `base`: fast on one image, then the best again in float64 on all of them."""
    exact = _Model(question, base, "float64", slice(None))
    fast = exact
    if question.difference > SMALL * spread(question.truth):
        fast = _Model(question, base, "float32", slice(1))
    hypotheses = [p for p in _hypotheses(question, base) if fast.differs(p)]
    found = []
    for done, planted in enumerate(hypotheses):
        progress(done, len(hypotheses), planted.sentence)
        found.append(fast.cause(planted))
        if found[-1].ratio < EXPLAINED:
            break
    found.sort(key=lambda cause: cause.left)
    if fast is not exact:
        found[:CONFIRMED] = [exact.cause(cause.planted[-1]) for cause in found[:CONFIRMED]]
    return sorted(found, key=lambda cause: cause.left)


def _hypotheses(question: Question, base: tuple[Planted, ...]) -> Iterator[Planted]:
    """Every fault at every place, or where its row says to look."""
    for fault in FAULTS.values():
        if fault.searched and fault not in [planted.fault for planted in base]:
            for place in _places(fault, question):
                yield fault.at(place)
            if fault.inside and question.block is not None:
                yield fault.at(question.block)


def _places(fault: Fault, question: Question) -> Sequence:
    places = fault.places(question.architecture)
    if fault.guess and places and question.variant == "classifier":
        return fault.guess(question.truth, question.outputs)
    return places


def _is_partial(ranked: Sequence[Cause], question: Question) -> bool:
    return bool(ranked) and ranked[0].ratio < PARTLY and not names(ranked[0], question)


class _Model:
    """The definition in NumPy with some faults in it already, to which one more is added at a time.

    A fault in the weights of a late block alone runs from there: the tokens before it are remembered.
    """

    def __init__(self, question: Question, base: tuple[Planted, ...], dtype: str, which: slice) -> None:
        self._question, self._base, self._dtype, self._which = question, base, dtype, which
        used = parameter_shapes(question.architecture, question.variant)
        self._params = {name: question.params[name] for name in used}
        self._ops: type = NumPyOps
        self._images = question.images[which].astype(dtype)
        for planted in base:
            self._params = planted.weights(self._params)
            self._ops = planted.operations(self._ops, words("numpy"))
            self._images = planted.images(self._images)

    def cause(self, planted: Planted) -> Cause:
        """What is left with one more fault."""
        question, which = self._question, self._which
        outputs = self._run(planted)
        found, truth = question.outputs[which], question.truth[which]
        left, difference = _rms(outputs - found), _rms(found - truth)
        return Cause((*self._base, planted), left, left / difference, _rms(outputs - truth) / difference)

    def differs(self, planted: Planted) -> bool:
        """Whether a fault changes anything here; of weights outside the one block that may differ none does."""
        if not planted.fault.weights:
            return True
        block, changed = self._question.block, self._changed(planted)
        return bool(changed) and (block is None or any(name.startswith(_block_name(block)) for name in changed))

    def _changed(self, planted: Planted) -> list[str]:
        after = planted.weights(self._params)
        return [name for name, leaf in after.items() if leaf is not self._params[name]]

    def _run(self, planted: Planted) -> Logits:
        params = planted.weights(self._params)
        first = self._first_block(planted) if planted.fault.weights else 0
        if first:
            return self._finish(self._ops, params, self._tokens[first - 1], first)
        ops = planted.operations(self._ops, words("numpy"))
        tokens = embed(self._question.architecture, ops(keep=()), self._cast(params), planted.images(self._images))
        return self._finish(ops, params, tokens, 0)

    def _finish(self, ops: type, params: Params, tokens: np.ndarray, first: int) -> Logits:
        question, machine = self._question, ops(keep=())
        machine.block = first  # for operations that are wrong in one block
        return from_block(question.architecture, machine, self._cast(params), tokens, first, question.variant)

    @cached_property
    def _tokens(self) -> list[np.ndarray]:
        """After each block but the last."""
        architecture = self._question.architecture
        ops = self._ops(keep={_tap(index) for index in range(architecture.depth)})
        tokens = embed(architecture, ops, self._cast(self._params), self._images)
        from_block(architecture, ops, self._cast(self._params), tokens, 0, self._question.variant)
        return [ops.taps[_tap(index)] for index in range(architecture.depth)]

    def _first_block(self, planted: Planted) -> int:
        """How many blocks run as before."""
        blocks = range(self._question.architecture.depth)
        late = [(index, _block_name(index)) for index in blocks]
        firsts = []
        for name in self._changed(planted):
            inside = [index for index, prefix in late if name.startswith(prefix)]
            after = name.startswith(("Transformer/encoder_norm/", "pre_logits/", "head/"))
            firsts.append(inside[0] if inside else len(blocks) if after else 0)
        return min(firsts, default=0)

    def _cast(self, params: Params) -> Cast:
        return Cast(params, self._dtype)


def _tap(index: int) -> str:
    return f"encoderblock_{index}/+mlp"


def _block_name(index: int) -> str:
    return f"Transformer/encoderblock_{index}/"


def _rms(delta: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(np.square(delta, dtype=np.float64).mean()))


def _percent(part: float) -> str:
    """Never more than there is: 99.996 % is no 100 %."""
    return f"{int(max(part, 0.0) * 1e4) / 100:.2f} %"
