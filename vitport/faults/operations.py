"""Faults of arithmetic: each takes a class of operations, of whatever backend, and returns a subclass that is wrong.

What the operations themselves can't say (an erf, a wider kernel) comes from the backend's `Foreign` words.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vitport.arrays import softmax, tf32

Change = Callable[[type, Any], type]


def gelu_erf(ops: type, foreign: Any) -> type:
    """PyTorch's, Keras' and transformers' default."""
    return _with(ops, gelu_tanh=foreign.gelu_erf)


def gelu_quick(ops: type, foreign: Any) -> type:
    """CLIP's."""
    return _with(ops, gelu_tanh=foreign.gelu_quick)


def relu_for_gelu(ops: type, foreign: Any) -> type:
    return _with(ops, gelu_tanh=lambda self, x: self.relu(x))


def tanh_missing(ops: type, foreign: Any) -> type:
    return _with(ops, tanh=lambda self, x: x)


def softmax_inside(ops: type, foreign: Any) -> type:
    """A softmax after the head, as a server's model has it: NumPy's operations only."""

    def tap(self: Any, name: str, x: Any) -> Any:
        return ops.tap(self, name, softmax(x) if name == "logits" else x)

    return _with(ops, tap=tap)


def layer_norm_eps(eps: float) -> Change:
    """PyTorch's default is 1e-5, transformers' ViT has 1e-12."""

    def change(ops: type, foreign: Any) -> type:
        return _with(ops, layer_norm=lambda self, x, scale, bias, _: ops.layer_norm(self, x, scale, bias, eps))

    return change


def group_norm_eps(eps: float) -> Change:
    """PyTorch's default is 1e-5."""

    def change(ops: type, foreign: Any) -> type:
        return _with(
            ops, group_norm=lambda self, x, scale, bias, groups, _: ops.group_norm(self, x, scale, bias, groups, eps)
        )

    return change


def symmetric_padding(ops: type, foreign: Any) -> type:
    """`padding=kernel // 2`, as a PyTorch port writes it.

    On an even side SAME gives the odd pixel to the end. A kernel wider by a last row and column of zeros gets one more
    pixel before, which is where symmetric padding has it; on an odd side nothing changes, as both agree there.
    """

    def conv2d(self: Any, x: Any, kernel: Any, bias: Any, stride: int, padding: str) -> Any:
        if padding == "SAME" and stride > 1 and kernel.shape[0] > 1:
            kernel = foreign.widened(kernel)
        return ops.conv2d(self, x, kernel, bias, stride, padding)

    return _with(ops, conv2d=conv2d)


def attention_scale(factor: Callable[[int], float]) -> Change:
    """Scores times `factor(head width)`."""

    def change(ops: type, foreign: Any) -> type:
        def attention(self: Any, queries: Any, tokens: Any, weights: Mapping[str, Any]) -> Any:
            by = factor(int(weights["query/bias"].shape[1]))
            scaled = {name: foreign.times(weights[name], by) for name in ("query/kernel", "query/bias")}
            return ops.attention(self, queries, tokens, {**weights, **scaled})

        return _with(ops, attention=attention)

    return change


def query_key_swapped(ops: type, foreign: Any) -> type:
    def attention(self: Any, queries: Any, tokens: Any, weights: Mapping[str, Any]) -> Any:
        swapped = {}
        for leaf in ("kernel", "bias"):
            swapped |= {f"query/{leaf}": weights[f"key/{leaf}"], f"key/{leaf}": weights[f"query/{leaf}"]}
        return ops.attention(self, queries, tokens, {**weights, **swapped})

    return _with(ops, attention=attention)


def final_norm_missing(ops: type, foreign: Any) -> type:
    def layer_norm(self: Any, x: Any, scale: Any, bias: Any, eps: float) -> Any:
        self.before = x
        return ops.layer_norm(self, x, scale, bias, eps)

    def tap(self: Any, name: str, x: Any) -> Any:
        return ops.tap(self, name, self.before if name == "encoder_norm" else x)

    return _with(ops, layer_norm=layer_norm, tap=tap)


def tf32_on(rounding: bool) -> Change:
    """Both operands of every product at 10 bits of mantissa: NumPy's operations only. rounding: as in `arrays.tf32`."""

    def change(ops: type, foreign: Any) -> type:
        methods = {**_methods(foreign.tf32), "operand": lambda self, x: tf32(x, rounding)}
        return _with(ops, **methods)

    return change


def confined(ops: type, wrong: type, block: int) -> type:
    """`ops` everywhere but in one encoder block, which has the methods of `wrong`, a subclass of it.

    The names of taps tell where a forward pass is; one that does not begin with the first block sets `block`.
    """

    def tap(self: Any, name: str, x: Any) -> Any:
        self.block += name.endswith("/+mlp")
        return ops.tap(self, name, x)

    def chosen(name: str) -> Callable:
        right, other = getattr(ops, name), vars(wrong)[name]
        return lambda self, *arguments: (other if self.block == block else right)(self, *arguments)

    changed = {name: chosen(name) for name in _methods(wrong)}
    return _with(ops, **changed, tap=tap, block=0)


def _methods(ops: type) -> dict[str, Callable]:
    """What a class itself defines."""
    return {name: method for name, method in vars(ops).items() if callable(method)}


def _with(ops: type, **attributes: Any) -> type:
    """`ops` with other methods."""
    return type(f"Wrong{ops.__name__}", (ops,), attributes)
