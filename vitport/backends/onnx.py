"""The definition as an ONNX graph written from the weights: no framework, no trace.

Convolutions lie channels first inside and are turned only where a channels-last operation follows. Everything that
depends on weights alone (StdConv, fused projections, the attention scale) is computed here, once, in float64.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

from vitport.architectures import Architecture, forward
from vitport.architectures.ops import GELU_CUBIC, GELU_FACTOR, Padding
from vitport.arrays import Images, Params, Taps
from vitport.backends.numpy import NumPyOps, same_padding
from vitport.backends.onnx_graph import BATCH, Graph, Value, Weight, index, scalar
from vitport.opsets import ATTENTION_SINCE, AXES_AS_INPUT_SINCE, GELU_SINCE

INPUT = "pixel_values"
"""The input's name in optimum and transformers.js."""


def run(architecture: Architecture, params: Params, images: Images, variant: str, dtype: str = "float64") -> Taps:
    """Every tap of the graph under the ONNX reference evaluator, an engine that shares no kernel with ONNX Runtime."""
    from onnx.reference import ReferenceEvaluator

    graph = build(architecture, params, variant, GELU_SINCE, dtype)
    evaluator = ReferenceEvaluator(model_of(graph, architecture, dict.fromkeys(graph.taps)))
    outputs = evaluator.run(None, {INPUT: np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(dtype)})
    return {
        name: array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
        for name, array in zip(graph.taps, outputs, strict=True)
    }


def build(architecture: Architecture, params: Params, variant: str, opset: int, dtype: str = "float32") -> Graph:
    """The graph of one variant: input `pixel_values` (batch, 3, r, r), output `logits` or `pre_logits`."""
    graph = Graph(opset, np.dtype(dtype))
    ops = OnnxOps(graph)
    side = architecture.resolution
    images = Value(graph.input(INPUT), (side, side, 3), channels_first=True)
    weights = {name: Weight(name, np.asarray(leaf, graph.dtype)) for name, leaf in params.items()}
    forward(architecture, ops, weights, images, variant)
    return graph


def model_of(graph: Graph, architecture: Architecture, outputs: Mapping[str, int | None]) -> onnx.ModelProto:
    """A complete model with its weights inside, for evaluation in memory."""
    model = skeleton(graph, architecture, outputs)
    arrays = (numpy_helper.from_array(np.asarray(a, order="C"), name) for name, a in graph.weights.items())
    model.graph.initializer.extend(arrays)
    return model


def skeleton(graph: Graph, architecture: Architecture, outputs: Mapping[str, int | None]) -> onnx.ModelProto:
    """The model without its weights. outputs: name → width, None where the shape is to be inferred."""
    kind = helper.np_dtype_to_tensor_dtype(graph.dtype)
    side = architecture.resolution
    image = helper.make_tensor_value_info(INPUT, kind, (BATCH, 3, side, side))
    results = [
        helper.make_tensor_value_info(name, kind, (BATCH, width) if width else None) for name, width in outputs.items()
    ]
    opsets = [helper.make_opsetid("", graph.opset)]
    return helper.make_model(
        helper.make_graph(graph.nodes(), "vitport", [image], results),
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="vitport",
    )


class OnnxOps:
    """Operations that append nodes to a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._exact = NumPyOps()

    def standardize(self, kernel: Weight, eps: float) -> Weight:
        return kernel.derive(self._exact.standardize(kernel.array.astype(np.float64), eps))

    def conv2d(self, x: Value, kernel: Weight, bias: Weight | None, stride: int, padding: Padding) -> Value:
        pads, size = _padding(x.shape, kernel.shape[0], stride, padding)
        inputs = [kernel.derive(kernel.array.transpose(3, 2, 0, 1))] + ([bias] if bias else [])
        window = list(kernel.shape[:2])
        x = self._channels_first(x)
        (y,) = self.graph.emit("Conv", x.wire, *inputs, kernel_shape=window, strides=[stride, stride], pads=pads)
        return Value(y, (*size, kernel.shape[-1]), channels_first=True)

    def max_pool(self, x: Value, window: int, stride: int) -> Value:
        pads, size = _padding(x.shape, window, stride, "SAME")
        x = self._channels_first(x)
        square = {"kernel_shape": [window, window], "strides": [stride, stride]}
        (y,) = self.graph.emit("MaxPool", x.wire, pads=pads, **square)
        return Value(y, (*size, x.shape[-1]), channels_first=True)

    def group_norm(self, x: Value, scale: Weight, bias: Weight, groups: int, eps: float) -> Value:
        """Written out, with means taken along rows first and over rows then.

        One sum over a whole group, as ONNX Runtime's InstanceNormalization takes it, loses ten times more on flat
        images; in two stages it is as exact as NumPy's pairwise sum.
        """
        x = self._channels_first(x)
        h, w, c = x.shape
        grouped = self._reshape(x.wire, (groups, -1, w))
        (centred,) = self.graph.emit("Sub", grouped, self._group_mean(grouped))
        (square,) = self.graph.emit("Mul", centred, centred)
        (variance,) = self.graph.emit("Add", self._group_mean(square), scalar(eps))
        (std,) = self.graph.emit("Sqrt", variance)
        (gain,) = self.graph.emit("Div", scale.derive(scale.array.reshape(groups, -1, 1)), std)
        y = self._reshape(centred, (c, h, w))
        (y,) = self.graph.emit("Mul", y, self._reshape(gain, (c, 1, 1)))
        (y,) = self.graph.emit("Add", y, bias.derive(bias.array.reshape(-1, 1, 1)))
        return Value(y, x.shape, channels_first=True)

    def _group_mean(self, wire: int) -> int:
        """(batch, groups, rows, columns) to (batch, groups, 1, 1)."""
        for axis in (3, 2):
            if self.graph.opset >= AXES_AS_INPUT_SINCE:
                (wire,) = self.graph.emit("ReduceMean", wire, self.graph.integers([axis]), keepdims=1)
            else:
                (wire,) = self.graph.emit("ReduceMean", wire, axes=[axis], keepdims=1)
        return wire

    def layer_norm(self, x: Value, scale: Weight, bias: Weight, eps: float) -> Value:
        (y,) = self.graph.emit("LayerNormalization", x.wire, scale, bias, axis=-1, epsilon=eps)
        return Value(y, x.shape)

    def dense(self, x: Value, kernel: Weight, bias: Weight) -> Value:
        """A Gemm, which adds the bias on its way: 5 % of a whole S/16 in ONNX Runtime. It takes matrices alone."""
        rest, width, columns = x.shape[:-1], x.shape[-1], kernel.shape[-1]
        rows = self._regroup(x.wire, (width,)) if rest else x.wire
        (y,) = self.graph.emit("Gemm", rows, kernel, bias)
        return Value(self._regroup(y, (*rest, columns)) if rest else y, (*rest, columns))

    def attention(self, queries: Value, tokens: Value, weights: Mapping[str, Weight]) -> Value:
        heads, head_width = weights["query/bias"].shape
        sources = {"query": queries, "key": tokens, "value": tokens}
        parts = [self._project(x, weights[f"{part}/kernel"], weights[f"{part}/bias"]) for part, x in sources.items()]
        attend = self._attend_at_once if self.graph.opset >= ATTENTION_SINCE else self._attend
        mixed = self._reshape(attend(*parts, (heads, head_width)), (*queries.shape[:-1], heads * head_width))
        out = weights["out/kernel"]
        kernel = out.derive(out.array.reshape(heads * head_width, -1))
        return self.dense(Value(mixed, (*queries.shape[:-1], heads * head_width)), kernel, weights["out/bias"])

    def _project(self, x: Value, kernel: Weight, bias: Weight) -> Value:
        """(n, rows, width), or (n, width), to (n, rows, heads * head_width).

        Query, key and value by a product each: one for all three costs more than it saves, since they must be split.
        """
        y = self.dense(x, kernel.derive(kernel.array.reshape(len(kernel.array), -1)), bias.derive(bias.array.ravel()))
        return y if len(y.shape) == 2 else Value(self._reshape(y.wire, (1, *y.shape)), (1, *y.shape))

    def _attend_at_once(self, query: Value, key: Value, value: Value, split: tuple[int, int]) -> int:
        counts = {"q_num_heads": split[0], "kv_num_heads": split[0]}
        return self.graph.emit("Attention", query.wire, key.wire, value.wire, **counts)[0]

    def _attend(self, query: Value, key: Value, value: Value, split: tuple[int, int]) -> int:
        """softmax(query key' / sqrt(head_width)) value, (n, rows, heads, head_width).

        ONNX Runtime takes the key's second transpose and the scale into the first product.
        """
        query, key, value = (
            self.graph.emit("Transpose", self._reshape(part.wire, (part.shape[0], *split)), perm=[0, 2, 1, 3])[0]
            for part in (query, key, value)
        )
        (key,) = self.graph.emit("Transpose", key, perm=[0, 1, 3, 2])
        (scores,) = self.graph.emit("MatMul", query, key)
        (scores,) = self.graph.emit("Mul", scores, scalar(split[1] ** -0.5))
        (attention,) = self.graph.emit("Softmax", scores, axis=-1)
        (mixed,) = self.graph.emit("MatMul", attention, value)
        return self.graph.emit("Transpose", mixed, perm=[0, 2, 1, 3])[0]

    def gelu_tanh(self, x: Value) -> Value:
        """Written out in float64 too: the standard's own definition of Gelu holds its constants in float32.

        Written out, it is in the words that ONNX Runtime knows for FastGelu, its kernel for both.
        """
        if self.graph.opset >= GELU_SINCE and self.graph.dtype == np.float32:
            (y,) = self.graph.emit("Gelu", x.wire, approximate="tanh")
            return Value(y, x.shape)
        constants = (0.5, 1.0, 3.0, GELU_CUBIC, GELU_FACTOR)
        half, one, three, cubic, factor = (scalar(c) for c in constants)
        (cube,) = self.graph.emit("Pow", x.wire, three)
        (inner,) = self.graph.emit("Mul", cube, cubic)
        (inner,) = self.graph.emit("Add", x.wire, inner)
        (inner,) = self.graph.emit("Mul", inner, factor)
        (gate,) = self.graph.emit("Tanh", inner)
        (gate,) = self.graph.emit("Add", gate, one)
        (y,) = self.graph.emit("Mul", x.wire, half)
        (y,) = self.graph.emit("Mul", y, gate)
        return Value(y, x.shape)

    def relu(self, x: Value) -> Value:
        return self._pointwise("Relu", x)

    def tanh(self, x: Value) -> Value:
        return self._pointwise("Tanh", x)

    def add(self, x: Value, y: Value | Weight) -> Value:
        other = self._like(y, x).wire if isinstance(y, Value) else y
        (wire,) = self.graph.emit("Add", x.wire, other)
        return Value(wire, x.shape, x.channels_first)

    def flatten_grid(self, x: Value) -> Value:
        x = self._channels_last(x)
        h, w, c = x.shape
        return Value(self._reshape(x.wire, (h * w, c)), (h * w, c))

    def prepend_token(self, token: Weight, x: Value) -> Value:
        tokens, width = x.shape
        (batch,) = self.graph.emit("Shape", x.wire, start=0, end=1)
        (shape,) = self.graph.emit("Concat", batch, self.graph.integers([1, width]), axis=0)
        (row,) = self.graph.emit("Expand", token, shape)
        (y,) = self.graph.emit("Concat", row, x.wire, axis=1)
        return Value(y, (tokens + 1, width))

    def first_token(self, x: Value) -> Value:
        (y,) = self.graph.emit("Gather", x.wire, index("first", 0), axis=1)
        return Value(y, x.shape[1:])

    def tap(self, name: str, x: Value) -> Value:
        if self.graph.is_named(x.wire):
            x = self._pointwise("Identity", x)
        self.graph.tap(name, x.wire)
        return x

    def _pointwise(self, operator: str, x: Value) -> Value:
        (y,) = self.graph.emit(operator, x.wire)
        return Value(y, x.shape, x.channels_first)

    def _channels_first(self, x: Value) -> Value:
        return x if x.channels_first else self._turn(x, [0, 3, 1, 2])

    def _channels_last(self, x: Value) -> Value:
        return self._turn(x, [0, 2, 3, 1]) if x.channels_first else x

    def _like(self, x: Value, model: Value) -> Value:
        return self._channels_first(x) if model.channels_first else self._channels_last(x)

    def _turn(self, x: Value, perm: list[int]) -> Value:
        (y,) = self.graph.emit("Transpose", x.wire, perm=perm)
        return Value(y, x.shape, not x.channels_first)

    def _reshape(self, wire: int, shape: tuple[int, ...]) -> int:
        """To (batch, *shape): 0 copies the batch, whatever it is."""
        return self.graph.emit("Reshape", wire, self.graph.integers([0, *shape]))[0]

    def _regroup(self, wire: int, shape: tuple[int, ...]) -> int:
        """To (rows, *shape), as many rows as there are."""
        return self.graph.emit("Reshape", wire, self.graph.integers([-1, *shape]))[0]


def _padding(shape: tuple[int, ...], window: int, stride: int, padding: Padding) -> tuple[list[int], tuple[int, int]]:
    """ONNX pads [top, left, bottom, right] and the output's (height, width)."""
    if padding == "VALID":
        return [0, 0, 0, 0], tuple((size - window) // stride + 1 for size in shape[:2])
    (top, bottom), (left, right) = (same_padding(size, window, stride) for size in shape[:2])
    return [top, left, bottom, right], tuple(-(-size // stride) for size in shape[:2])
