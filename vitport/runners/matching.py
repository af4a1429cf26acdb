"""Finds the taps of the definition among the tensors of somebody else's graph, which has no names for them.

The definition is followed in NumPy, step by step. A step is sought among the tensors of its size, no earlier in the
graph than the step before, and what is found takes its place: so every step starts from what the graph itself had
there, and in a wrong model too only the wrong step is far from what is expected. That one is found by the step after
it, which must be near again.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vitport.architectures import forward
from vitport.arrays import Images, Taps
from vitport.backends import numpy as backend
from vitport.runners import Subject

NEAR = 0.05
"""Distance, in spreads of what was expected, up to which a tensor is the step without a doubt."""

EQUAL = 1e-5
"""Distance below which it is rounding."""

DOUBTS, CANDIDATES = 6, 32
"""Steps that are decided by the one after them, and tensors that are tried for each: every trial is a forward pass."""

SAMPLE = 4096
"""Values by which two tensors are compared."""

BRANCHES = re.compile(r"/unit\d+/")
"""Taps inside a residual unit, whose two branches have no order."""


def guide(subject: Subject, images: Images) -> Taps:
    """Every tap of the definition in float32, in the order of the forward pass."""
    return backend.run(subject.architecture, subject.params, images, subject.variant, "float32")


def could_be(shape: Sequence[int], taps: Taps) -> bool:
    """Whether a tensor of `shape` is worth keeping."""
    return any(True for tap in taps.values() for _ in _orders(tuple(shape), tap.shape))


def match(subject: Subject, images: Images, tensors: Sequence[np.ndarray]) -> Taps:
    """Each tap of the definition that there is, among `tensors` in the order in which they are computed."""
    chosen: dict[str, int] = {}
    while True:
        follower = _Follower(tensors, chosen, trusting=len(chosen) >= DOUBTS)
        try:
            follower.run(subject, images)
        except _Doubt as doubt:
            chosen[doubt.name] = _by_the_next_step(doubt, subject, images, tensors, chosen)
        else:
            return follower.found


def _by_the_next_step(
    doubt: "_Doubt", subject: Subject, images: Images, tensors: Sequence[np.ndarray], chosen: Mapping[str, int]
) -> int:
    """The candidate from which the next step comes out nearest to some tensor; the nearest itself of the last step.

    The first of equals: of a layer's input and that input less its mean, which a LayerNorm can't tell apart.
    """

    def missed(column: int) -> float:
        follower = _Follower(tensors, {**chosen, doubt.name: column}, after=doubt.name)
        try:
            follower.run(subject, images)
        except _Doubt as following:
            return float(following.distances.min())
        return float(doubt.distances[column])

    possible = [int(column) for column in np.flatnonzero(np.isfinite(doubt.distances))[:CANDIDATES]]
    misses = {column: missed(column) for column in possible}
    return next(column for column in possible if misses[column] <= max(min(misses.values()), EQUAL))


class _Doubt(Exception):
    """No tensor is near the step `name`. distances: of each from what was expected, infinite where it can't be."""

    def __init__(self, name: str, distances: np.ndarray) -> None:
        self.name, self.distances = name, distances


class _Follower(backend.NumPyOps):
    """The definition, going on from what is found. chosen: tensors of steps in doubt. trusting: takes the nearest,
    however far. after: raises its doubt of the step after this one, even where it has none."""

    def __init__(
        self, tensors: Sequence[np.ndarray], chosen: Mapping[str, int], trusting: bool = False, after: str = ""
    ) -> None:
        super().__init__(keep=())
        self.found: Taps = {}
        self._tensors, self._chosen, self._trusting, self._after = tensors, chosen, trusting, after
        self._last, self._previous = 0, ""

    def run(self, subject: Subject, images: Images) -> None:
        forward(subject.architecture, self, subject.params, images, subject.variant)

    def tap(self, name: str, x: np.ndarray) -> np.ndarray:
        distances = self._distances(name, x)
        if not np.isfinite(distances).any():
            return x
        column = self._chosen.get(name, int(distances.argmin()))
        doubtful = name not in self._chosen and not self._trusting and distances[column] > NEAR
        if doubtful or (self._after and self._previous == self._after):
            raise _Doubt(name, distances)
        self._last, self._previous = (self._last if BRANCHES.search(name) else column), name
        forms = _forms(self._tensors[column], x.shape)
        self.found[name] = np.ascontiguousarray(min(forms, key=lambda form: _distance(form, x)))
        return self.found[name]

    def _distances(self, name: str, x: np.ndarray) -> np.ndarray:
        """Of every tensor in its nearest form; infinite for what can't be this step."""
        first = self._last
        forms = (_forms(tensor, x.shape) if column >= first else [] for column, tensor in enumerate(self._tensors))
        return np.array([min((_distance(form, x) for form in each), default=np.inf) for each in forms])


def _forms(tensor: np.ndarray, shape: tuple[int, ...]) -> list[np.ndarray]:
    """`tensor` in `shape`, in every way that it may have been laid out."""
    return [_turned(tensor, order, shape).reshape(shape) for order in _orders(tensor.shape, shape)]


def _turned(tensor: np.ndarray, order: tuple[int, ...] | None, shape: tuple[int, ...]) -> np.ndarray:
    return tensor.reshape(shape[0], -1, shape[-1])[:, 0] if order is None else tensor.transpose(order)


def _orders(found: tuple[int, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, ...] | None]:
    """Orders of the axes in which a tensor of shape `found` may be a tap of `shape`.

    None is the class token of all tokens, (n, tokens, width) or (n * tokens, width): where the definition has it alone.
    """
    if len(found) < 2:
        return
    if np.prod(found) == np.prod(shape):
        if found[-1] == shape[-1]:
            yield tuple(range(len(found)))
        if len(found) > 2 and found[1] == shape[-1]:
            yield (0, *range(2, len(found)), 1)
    elif len(shape) == 2 and found[-1] == shape[-1] and found[0] % shape[0] == 0:
        yield None


def _distance(form: np.ndarray, expected: np.ndarray) -> float:
    """RMS difference over the spread of what was expected, on a sample of both; very far where it is not finite."""
    step = max(expected.size // SAMPLE, 1)
    one, other = (array.reshape(-1)[::step].astype(np.float64) for array in (form, expected))
    distance = float(np.sqrt(np.square(one - other).mean()) / (other.std() or 1.0))
    return distance if np.isfinite(distance) else np.finfo(np.float64).max
