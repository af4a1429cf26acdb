"""The definition in NumPy: in float64 the executable specification, in float32 the yardstick of a good float32.

Written for exactness first: every reduction runs over contiguous memory, where NumPy sums pairwise (error grows with
log n, not n), and every variance takes two passes.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from vitport.architectures import Architecture, forward
from vitport.architectures.ops import GELU_CUBIC, GELU_FACTOR, Padding
from vitport.arrays import Images, Logits, Params, Taps, bit_equal, softmax, tf32
from vitport.devices import Runner

PLACE = "cpu: NumPy"
"""Where NumPy computes, in the form of what frameworks say of themselves."""

CENTRINGS = range(2)
"""How often a StdConv kernel is centred. A kernel whose mean is far above its spread loses its last bits in the mean:
the rounding of the first mean leaves an offset that the whole receptive field adds up, and the second takes it away
(float32 logits of a hybrid with such kernels are 100 times nearer to float64)."""


def run(
    architecture: Architecture,
    params: Params,
    images: Images,
    variant: str,
    dtype: str = "float64",
    keep: Container[str] | None = None,
) -> Taps:
    """The taps of the forward pass, `logits` or `pre_logits` last; all arithmetic in `dtype`. keep: only these taps."""
    ops = NumPyOps(keep)
    forward(architecture, ops, Cast(params, dtype), images.astype(dtype), variant)
    return ops.taps


class Cast(Mapping[str, np.ndarray]):
    """Weights in `dtype` and C-contiguous, each made so when it is asked for: all of them are the checkpoint again,
    or in float64 twice.
    """

    def __init__(self, params: Params, dtype: str) -> None:
        self._params, self._dtype = params, dtype

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._params[name], self._dtype, order="C")

    def __iter__(self) -> Iterator[str]:
        return iter(self._params)

    def __len__(self) -> int:
        return len(self._params)


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """Pixels before and after one axis so that the output has ceil(size / stride): XLA's SAME, the odd one last."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


class NumPyOps:
    """Operations on ndarrays in whatever float type they have; remembers every tap, or those in `keep`."""

    def __init__(self, keep: Container[str] | None = None) -> None:
        self.taps: Taps = {}
        self._keep = keep

    def operand(self, x: np.ndarray) -> np.ndarray:
        """What a product takes of one of its two operands: here all of it."""
        return x

    def standardize(self, kernel: np.ndarray, eps: float) -> np.ndarray:
        columns = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)
        for _ in CENTRINGS:
            columns = columns - columns.mean(axis=1, keepdims=True)
        std = np.sqrt(np.square(columns).mean(axis=1, keepdims=True))
        return np.ascontiguousarray((columns / (std + kernel.dtype.type(eps))).T).reshape(kernel.shape)

    def conv2d(
        self, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None, stride: int, padding: Padding
    ) -> np.ndarray:
        x, kernel = self.operand(x), self.operand(kernel)
        windows = _windows(_pad_same(x, kernel.shape[0], stride, 0.0) if padding == "SAME" else x, kernel, stride)
        patches = windows.reshape(*windows.shape[:3], -1)
        y = patches @ kernel.reshape(-1, kernel.shape[-1])
        return y if bias is None else y + bias

    def max_pool(self, x: np.ndarray, window: int, stride: int) -> np.ndarray:
        padded = _pad_same(x, window, stride, -np.inf)
        height, width = -(-x.shape[1] // stride), -(-x.shape[2] // stride)
        shifted = (
            padded[:, i : i + stride * height : stride, j : j + stride * width : stride]
            for i in range(window)
            for j in range(window)
        )
        return np.maximum.reduce(list(shifted))

    def group_norm(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, groups: int, eps: float) -> np.ndarray:
        n, h, w, c = x.shape
        grouped = np.ascontiguousarray(x.reshape(n, h * w, groups, c // groups).swapaxes(1, 2))
        normal = _normalize(grouped.reshape(n, groups, -1), eps).reshape(grouped.shape)
        return normal.swapaxes(1, 2).reshape(x.shape) * scale + bias

    def layer_norm(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
        return _normalize(x, eps) * scale + bias

    def dense(self, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return self.operand(x) @ self.operand(kernel) + bias

    def attention(self, queries: np.ndarray, tokens: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        rows = queries.reshape(len(tokens), -1, queries.shape[-1])
        query, key, value = (
            np.swapaxes(self._project(x, weights[f"{part}/kernel"], weights[f"{part}/bias"]), 1, 2)
            for part, x in (("query", rows), ("key", tokens), ("value", tokens))
        )
        shares = softmax(self._scores(query, key, np.sqrt(query.dtype.type(query.shape[-1]))))
        mixed = (self.operand(shares) @ self.operand(value)).swapaxes(1, 2)
        return self._project(mixed, weights["out/kernel"], weights["out/bias"]).reshape(queries.shape)

    def _project(self, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """A dense layer of attention, over as many last axes of x as the kernel has before the bias's own."""
        return np.tensordot(self.operand(x), self.operand(kernel), kernel.ndim - bias.ndim) + bias

    def _scores(self, query: np.ndarray, key: np.ndarray, root: np.floating) -> np.ndarray:
        return self.operand(query / root) @ self.operand(key).swapaxes(2, 3)

    def gelu_tanh(self, x: np.ndarray) -> np.ndarray:
        half, cubic, factor = (x.dtype.type(c) for c in (0.5, GELU_CUBIC, GELU_FACTOR))
        return half * x * (1 + np.tanh(factor * (x + cubic * x * x * x)))

    def relu(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0)

    def tanh(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x)

    def add(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x + y

    def flatten_grid(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1, x.shape[-1])

    def prepend_token(self, token: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.broadcast_to(token, (len(x), 1, x.shape[-1])), x], axis=1)

    def first_token(self, x: np.ndarray) -> np.ndarray:
        return x[:, 0]

    def tap(self, name: str, x: np.ndarray) -> np.ndarray:
        if self._keep is None or name in self._keep:
            self.taps[name] = x
        return x


class TF32Ops(NumPyOps):
    """NumPy with products as a GPU has them in TensorFloat-32: of plain matrices, and scores are scaled afterwards."""

    def operand(self, x: np.ndarray) -> np.ndarray:
        return tf32(x)

    def _project(self, x: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
        rows = x.reshape(*x.shape[:2], -1)
        y = self.dense(rows, kernel.reshape(rows.shape[-1], -1), bias.ravel())
        return y.reshape(*x.shape[:2], *bias.shape)

    def _scores(self, query: np.ndarray, key: np.ndarray, root: np.floating) -> np.ndarray:
        return self.operand(query) @ self.operand(key).swapaxes(2, 3) / root


@dataclass(frozen=True, slots=True)
class Model:
    """One variant of the definition and its weights, which may be views.

    ops: where a client computes some operation otherwise.
    """

    architecture: Architecture
    variant: str
    params: Params
    ops: type[NumPyOps] = NumPyOps

    def runner(self) -> Runner:
        """It, in float32."""

        def infer(images: Images) -> tuple[Logits, str]:
            weights = Cast(self.params, "float32")
            return forward(self.architecture, self.ops(keep=()), weights, images, self.variant), PLACE

        runner = Runner("NumPy", "cpu", infer, model=self)
        runner.reported = PLACE  # known before a run: there is no other
        return runner

    def same(self, other: "Model") -> bool:
        """Whether it is the other one, weights to the last bit: then nobody has to run it to know what it computes.

        The number of classes is the width of the head; features have none.
        """
        ours, theirs = (
            (replace(model.architecture, num_classes=0), model.variant, model.ops, model.params.keys())
            for model in (self, other)
        )
        return ours == theirs and all(bit_equal(leaf, other.params[name]) for name, leaf in self.params.items())


def _normalize(x: np.ndarray, eps: float) -> np.ndarray:
    """The last axis to mean 0 and variance 1."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.square(centred).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + x.dtype.type(eps))


def _pad_same(x: np.ndarray, window: int, stride: int, value: float) -> np.ndarray:
    rows, columns = (same_padding(size, window, stride) for size in x.shape[1:3])
    return np.pad(x, ((0, 0), rows, columns, (0, 0)), constant_values=value)


def _windows(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """Strided view (n, out_h, out_w, kh, kw, c)."""
    view = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return view[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)
