"""An ONNX graph under construction: nodes in order, weights kept as the arrays they came as, names given by taps.

Nodes are recorded as plain tuples and named when the graph is closed: all nodes since the last tap belong to the next
one (`encoderblock_0/MlpBlock_3/gelu/Mul`), and a tapped value carries the tap's name. Weights never enter a protobuf
here, so that a writer can stream them from the checkpoint to the file.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper

BATCH = "batch"

CONSTANT = "constant/"
"""Before the value, in the name of what is no leaf of the checkpoint."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A constant of the graph: an initializer once some node uses it."""

    name: str
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def derive(self, array: np.ndarray) -> "Weight":
        """The same weight in another shape or axis order, or a new one computed from it."""
        return Weight(self.name, array)


def scalar(value: float) -> Weight:
    """A constant whose name says exactly what it was before the graph's float type rounded it."""
    return Weight(f"{CONSTANT}{float(value)!r}", np.asarray(value, np.float64))


def index(name: str, value: int) -> Weight:
    """An int64 constant with a name of its own."""
    return Weight(f"{CONSTANT}{name}", np.asarray(value, np.int64))


def exact(name: str) -> float | None:
    """What `scalar` put into a name; None where it says no number."""
    try:
        return float(name.removeprefix(CONSTANT)) if name.startswith(CONSTANT) else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Value:
    """An activation: its wire, its logical shape without the batch (channels last), and how it lies in memory."""

    wire: int
    shape: tuple[int, ...]
    channels_first: bool = False


@dataclass(slots=True)
class _Node:
    operator: str
    inputs: tuple[int | str, ...]
    outputs: tuple[int, ...]
    attributes: dict
    name: str = ""


@dataclass
class Graph:
    """Nodes and weights of one model in one float type and opset."""

    opset: int
    dtype: np.dtype
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    taps: dict[str, int] = field(default_factory=dict)
    _nodes: list[_Node] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _wires: int = 0
    _named: int = 0

    def input(self, name: str) -> int:
        """A wire that carries a graph input."""
        wire = self._wire()
        self._names[wire] = name
        return wire

    def emit(self, operator: str, *inputs: int | Weight, outputs: int = 1, **attributes) -> tuple[int, ...]:
        """Appends a node; returns its output wires."""
        sources = tuple(self._use(source) if isinstance(source, Weight) else source for source in inputs)
        wires = tuple(self._wire() for _ in range(outputs))
        self._nodes.append(_Node(operator, sources, wires, attributes))
        return wires

    def integers(self, values: Sequence[int]) -> Weight:
        """An int64 constant, named by its content so that equal ones are one."""
        name = CONSTANT + "_".join(str(v).replace("-", "minus") for v in values)
        return Weight(name, np.asarray(values, np.int64))

    def tap(self, name: str, wire: int) -> None:
        """Names `wire`, and every node since the last tap after it."""
        used: Counter[str] = Counter()
        for node in self._nodes[self._named :]:
            used[node.operator] += 1
            repeat = f"_{used[node.operator]}" if used[node.operator] > 1 else ""
            node.name = f"{name}/{node.operator}{repeat}"
        self._named = len(self._nodes)
        self._names[wire] = name
        self.taps[name] = wire

    def is_named(self, wire: int) -> bool:
        """Whether `wire` is an input or has been tapped already."""
        return wire in self._names

    def nodes(self) -> list[onnx.NodeProto]:
        """The nodes with their final names; an untapped output is named after its node."""
        names = dict(self._names)
        for node in self._nodes:
            for index, wire in enumerate(node.outputs):
                suffix = f":{index}" if len(node.outputs) > 1 else ""
                names.setdefault(wire, f"{node.name}{suffix}")
        return [
            helper.make_node(
                node.operator,
                [source if isinstance(source, str) else names[source] for source in node.inputs],
                [names[wire] for wire in node.outputs],
                node.name,
                **node.attributes,
            )
            for node in self._nodes
        ]

    def _wire(self) -> int:
        self._wires += 1
        return self._wires

    def _use(self, weight: Weight) -> str:
        """Registers an initializer. Two different arrays of one name would be a wrong model: refused."""
        array = weight.array if weight.array.dtype == np.int64 else np.asarray(weight.array, self.dtype)
        known = self.weights.setdefault(weight.name, array)
        if known is not array and not np.array_equal(known, array):
            raise ValueError(
                f"two different weights are called {weight.name}, of shapes {known.shape} and {array.shape}"
            )
        return weight.name
