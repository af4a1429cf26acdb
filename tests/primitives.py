"""Every operation of `architectures/ops.py` written out in NumPy, as slow and as obvious as it can be, with inputs.

`CHECKS` pairs each formula with arguments that provoke its mistakes: odd and even sides, both ends of SAME padding,
means far above the spread, spreads near the epsilon, head widths whose square root is rational and not.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np


@dataclass(frozen=True)
class Check:
    """One call of one operation.

    weights: arguments that are leaves of a checkpoint, not activations.
    slack: how many times more than the usual rounding the result may be off, where the input is badly conditioned.
    float64: for the same reason, the relative error allowed in float64.
    """

    name: str
    method: str
    formula: Callable[..., np.ndarray]
    arguments: dict
    weights: frozenset[str] = field(
        default=frozenset({"kernel", "bias", "scale", "token", "weights"}),
    )
    slack: float = 1.0
    float64: float = 1e-12

    def rounded(self, dtype: str) -> dict:
        """The arguments with every array in `dtype`."""
        return once(self.arguments, lambda value: _in_dtype(value, dtype))

    def expected(self, dtype: str) -> np.ndarray:
        """The formula in float64 on arguments that have been rounded to `dtype`."""
        return self.formula(**once(self.rounded(dtype), lambda value: _in_dtype(value, "float64")))


def once(arguments: dict, change: Callable) -> dict:
    """Every argument changed; one that stands under two names, as the tokens of self-attention do, stays one."""
    changed = {id(value): change(value) for value in arguments.values()}
    return {name: changed[id(value)] for name, value in arguments.items()}


def _in_dtype(value: object, dtype: str) -> object:
    if isinstance(value, dict):
        return {name: leaf.astype(dtype) for name, leaf in value.items()}
    return value.astype(dtype) if isinstance(value, np.ndarray) else value


# The formulas.


def standardize(kernel: np.ndarray, eps: float) -> np.ndarray:
    result = np.empty(kernel.shape)
    for channel in range(kernel.shape[-1]):
        weights = kernel[..., channel].ravel()
        mean = math.fsum(weights) / weights.size
        std = math.sqrt(math.fsum((w - mean) ** 2 for w in weights) / weights.size)
        result[..., channel] = (kernel[..., channel] - mean) / (std + eps)
    return result


def windows(x: np.ndarray, window: int, stride: int, fill: float | None) -> np.ndarray:
    """(n, rows, columns, window, window, c); the odd pixel of SAME goes last, no padding where `fill` is None."""
    if fill is not None:
        x = np.pad(x, ((0, 0), *(_same(size, window, stride) for size in x.shape[1:3]), (0, 0)), constant_values=fill)
    rows, columns = ((size - window) // stride + 1 for size in x.shape[1:3])
    result = np.empty((len(x), rows, columns, window, window, x.shape[3]))
    for i, j in product(range(rows), range(columns)):
        result[:, i, j] = x[:, i * stride : i * stride + window, j * stride : j * stride + window]
    return result


def _same(size: int, window: int, stride: int) -> tuple[int, int]:
    """XLA's rule (tensorflow/core/kernels/conv_ops.cc): ceil(size / stride) outputs, less padding before than after."""
    needed = (math.ceil(size / stride) - 1) * stride + window
    padding = max(needed - size, 0)
    return math.floor(padding / 2), math.ceil(padding / 2)


def conv2d(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, stride: int, padding: str) -> np.ndarray:
    y = np.einsum("nijhwc,hwco->nijo", windows(x, len(kernel), stride, 0.0 if padding == "SAME" else None), kernel)
    return y if bias is None else y + bias


def max_pool(x: np.ndarray, window: int, stride: int) -> np.ndarray:
    return windows(x, window, stride, -math.inf).max(axis=(3, 4))


def group_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, groups: int, eps: float) -> np.ndarray:
    result, size = np.empty(x.shape), x.shape[-1] // groups
    for image, group in product(range(len(x)), range(groups)):
        where = image, ..., slice(group * size, (group + 1) * size)
        result[where] = (x[where] - x[where].mean()) / math.sqrt(x[where].var() + eps)
    return result * scale + bias


def layer_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
    result = np.empty(x.shape)
    for where in np.ndindex(x.shape[:-1]):
        result[where] = (x[where] - x[where].mean()) / math.sqrt(x[where].var() + eps)
    return result * scale + bias


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.einsum("...i,io->...o", x, kernel) + bias


def attention(queries: np.ndarray, tokens: np.ndarray, weights: dict[str, np.ndarray]) -> np.ndarray:
    _, heads, head_width = weights["query/kernel"].shape
    result = np.zeros((len(queries), *queries.shape[1:])) + weights["out/bias"]

    def project(x: np.ndarray, part: str, head: int) -> np.ndarray:
        return x @ weights[f"{part}/kernel"][:, head] + weights[f"{part}/bias"][head]

    for (*row, _), head in product(np.ndindex(*queries.shape[:-1], 1), range(heads)):
        key, value = (project(tokens[row[0]], part, head) for part in ("key", "value"))
        query = project(queries[tuple(row)], "query", head)
        scores = np.array([query @ other for other in key]) / math.sqrt(head_width)
        share = np.exp(scores - scores.max())
        result[tuple(row)] += (share / share.sum()) @ value @ weights["out/kernel"][head]
    return result


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_erf(x: np.ndarray) -> np.ndarray:
    """The other GELU, which the checkpoints were not trained with."""
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def flatten_grid(x: np.ndarray) -> np.ndarray:
    return np.stack([[row for line in image for row in line] for image in x])


def prepend_token(token: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.stack([[token[0, 0], *image] for image in x])


# The arguments.


def _noise(*shape: int, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    return np.random.default_rng(list(shape)).normal(mean, std, shape)


def _kernels() -> Iterator[Check]:
    for name, std, slack in [("typical", 1e-2, 1), ("near the epsilon", 1e-5, 1), ("below the epsilon", 1e-7, 1)]:
        kernel = _noise(3, 3, 4, 6, std=std)
        yield Check(f"StdConv, {name}", "standardize", standardize, {"kernel": kernel, "eps": 1e-5}, slack=slack)
    shifted = _noise(7, 7, 3, 5, mean=1.0, std=1e-2)
    yield Check("StdConv, mean of 100 std", "standardize", standardize, {"kernel": shifted, "eps": 1e-5}, slack=4)


CONVOLUTIONS = [  # n, h, w, kernel, stride, padding
    (1, 8, 8, 1, 1, "SAME"),
    (2, 8, 6, 3, 1, "SAME"),
    (5, 7, 8, 3, 2, "SAME"),
    (2, 8, 7, 3, 2, "SAME"),
    (1, 12, 9, 7, 2, "SAME"),
    (2, 9, 12, 7, 2, "SAME"),
    (2, 9, 8, 1, 2, "SAME"),
    (2, 5, 5, 7, 1, "SAME"),
    (5, 8, 12, 4, 4, "VALID"),
    (2, 6, 4, 1, 1, "VALID"),
    (2, 9, 7, 3, 2, "VALID"),
]


def _convolutions() -> Iterator[Check]:
    for (n, h, w, window, stride, padding), bias in product(CONVOLUTIONS, [None, _noise(5)]):
        name = f"{padding} {window}x{window}/{stride} on {n}x{h}x{w}{' with bias' if bias is not None else ''}"
        x, kernel = _noise(n, h, w, 3), _noise(window, window, 3, 5)
        arguments = {"x": x, "kernel": kernel, "bias": bias, "stride": stride, "padding": padding}
        yield Check(name, "conv2d", conv2d, arguments)


def _pools() -> Iterator[Check]:
    for n, h, w, window, stride in [(1, 8, 8, 3, 2), (2, 7, 10, 3, 2), (5, 9, 5, 3, 1), (2, 6, 7, 2, 2)]:
        # All below zero: a padding of zero would win.
        x = -1 - np.abs(_noise(n, h, w, 4))
        arguments = {"x": x, "window": window, "stride": stride}
        yield Check(f"pool {window}/{stride} on {n}x{h}x{w}", "max_pool", max_pool, arguments)


NORMS = [  # mean, std, slack, relative error in float64
    ("unit", 0.0, 1.0, 1, 1e-12),
    ("large mean", 300.0, 1.0, 300, 1e-11),
    ("spread near the epsilon", 0.0, 1e-3, 1, 1e-7),
]
"""ONNX holds an epsilon in float32, half an ULP of which shows in float64 where the spread is as small."""


def _norms() -> Iterator[Check]:
    for (name, mean, std, slack, exact), (n, h, w, c, groups) in product(
        NORMS, [(1, 4, 4, 32, 32), (2, 5, 3, 96, 32), (5, 3, 2, 6, 2)]
    ):
        arguments = {"x": _noise(n, h, w, c, mean=mean, std=std), "scale": _noise(c, mean=1), "bias": 3 * _noise(c)}
        arguments |= {"groups": groups, "eps": 1e-6}
        label = f"{c // groups} channels a group, {n}x{h}x{w}, {name}"
        yield Check(label, "group_norm", group_norm, arguments, slack=slack, float64=exact)
    for (name, mean, std, slack, exact), shape in product(NORMS, [(1, 3, 8), (5, 4, 15), (2, 9)]):
        arguments = {"x": _noise(*shape, mean=mean, std=std), "scale": _noise(shape[-1], mean=1)}
        arguments |= {"bias": 3 * _noise(shape[-1]), "eps": 1e-6}
        yield Check(f"{shape}, {name}", "layer_norm", layer_norm, arguments, slack=slack, float64=exact)


def _attentions() -> Iterator[Check]:
    for head_width, heads, n, tokens in [(8, 3, 1, 5), (16, 2, 2, 7), (64, 2, 5, 4), (80, 3, 2, 6), (5, 3, 2, 1)]:
        width = 11
        kernels = {f"{part}/kernel": _noise(width, heads, head_width, std=0.4) for part in ("query", "key", "value")}
        kernels = {name: kernel + index / 7 for index, (name, kernel) in enumerate(kernels.items())}
        biases = {
            f"{part}/bias": (index - 1) * _noise(heads, head_width)
            for index, part in enumerate(("query", "key", "value"))
        }
        out = {"out/kernel": _noise(heads, head_width, width), "out/bias": _noise(width)}
        x, name = _noise(n, tokens, width), f"{heads} heads of {head_width}, {n}x{tokens}"
        for label, queries in {
            name: x,
            f"{name}, first token asks": x[:, 0],
            f"{name}, another asks": -x[:, 0],
        }.items():
            arguments = {"queries": queries, "tokens": x, "weights": {**kernels, **biases, **out}}
            yield Check(label, "attention", attention, arguments, slack=8)


def _pointwise() -> Iterator[Check]:
    line = np.linspace(-9, 9, 361).reshape(1, 19, 19)
    yield Check("tanh GELU", "gelu_tanh", gelu_tanh, {"x": line})
    yield Check("relu", "relu", lambda x: np.where(x > 0, x, 0), {"x": line})
    yield Check("relu on a grid", "relu", lambda x: np.where(x > 0, x, 0), {"x": _noise(2, 3, 5, 4)})
    yield Check("tanh", "tanh", lambda x: np.vectorize(math.tanh)(x), {"x": line})
    yield Check("add activations", "add", lambda x, y: x + y, {"x": _noise(2, 3, 5, 4), "y": 2 * _noise(2, 3, 5, 4)})
    positions = {"x": _noise(5, 3, 4), "y": _noise(1, 3, 4)}
    yield Check("add positions", "add", lambda x, y: x + y, positions, weights=frozenset({"y"}))
    yield Check("tap", "tap", lambda name, x: x, {"name": "some tap", "x": _noise(2, 3)})


def _tokens() -> Iterator[Check]:
    for n in (1, 2, 5):
        yield Check(f"grid of {n}", "flatten_grid", flatten_grid, {"x": _noise(n, 3, 2, 4)})
        yield Check(
            f"class token of {n}", "prepend_token", prepend_token, {"token": _noise(1, 1, 4), "x": _noise(n, 3, 4)}
        )
        yield Check(f"row 0 of {n}", "first_token", lambda x: x[:, 0], {"x": _noise(n, 3, 4)})
    for n, shape in [(1, (3, 4)), (5, (6, 4)), (2, (4,))]:
        arguments = {"x": _noise(n, *shape), "kernel": _noise(4, 7), "bias": _noise(7)}
        yield Check(f"dense of {(n, *shape)}", "dense", dense, arguments)


CHECKS = [
    *_kernels(),
    *_convolutions(),
    *_pools(),
    *_norms(),
    *_attentions(),
    *_pointwise(),
    *_tokens(),
]
