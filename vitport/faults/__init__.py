"""The table of faults: what goes wrong in ports of a Vision Transformer, each defined once and planted from here.

`selftest` plants them in artifacts and requires every gate to hold; `bisect` runs the definition with each and sees
which one explains what an artifact returned (`causes.py`); the tests do both. A fault changes weights
(`weights.py`), operations (`operations.py`) or images (`pictures.py`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vitport.architectures import Architecture
from vitport.arrays import Images, Logits, Params
from vitport.faults import operations, pictures, weights

Place = Any
"""Where a fault is: None where it is everywhere, a block's index, a leaf's name, or whatever its row says."""

CONTROL = "none"
"""The name of what is no fault: nothing is planted, and everything must pass."""

OPERATIONS = ("numpy", "tensorflow", "torch", "onnx", "jax")
"""Backends whose operations can be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One row of the table; exactly one of weights, operations and images says how it is planted.

    sentence: what is wrong, with `{0}` for the place. places: where it can be in an architecture, none where it can't
    be at all. weights: leaves to changed leaves. operations: a backend's class of operations and its `Foreign` words to
    a subclass. guess: the only places worth looking at, from the oracle's outputs and those found. searched: whether
    outputs can show it; a single weight among millions can't be found so. erratic: whether it rounds so much that no
    two runs of it agree; then the size of a difference speaks, not what is left of it. backends: whose operations.
    inside: whether the operations are of the encoder's blocks, so that its place may be a block's index.
    """

    name: str
    sentence: str
    places: Callable[[Architecture], Sequence[Place]] = lambda architecture: (None,)
    weights: Callable[[Params, Place], Params] | None = None
    operations: Callable[[type, Any], type] | None = None
    images: Callable[[Images], Images] | None = None
    guess: Callable[[Logits, Logits], Sequence[Place]] | None = None
    searched: bool = True
    erratic: bool = False
    backends: tuple[str, ...] = OPERATIONS
    inside: bool = False

    def at(self, place: Place) -> "Planted":
        """The fault at one place."""
        return Planted(self, place)

    def typical(self, architecture: Architecture) -> "Planted | None":
        """The fault in the middle of where it can be; None where it can't."""
        places = self.places(architecture)
        return self.at(places[len(places) // 2]) if places else None


@dataclass(frozen=True, slots=True)
class Planted:
    """A fault at one place."""

    fault: Fault
    place: Place = None

    @property
    def sentence(self) -> str:
        """What is wrong and where."""
        alone = f", in block {self.place} alone" if self.fault.inside and self.place is not None else ""
        return self.fault.sentence.format(self.place) + alone

    def weights(self, params: Params) -> Params:
        """The leaves with the fault in them; those that it leaves alone are the same arrays."""
        return self.fault.weights(params, self.place) if self.fault.weights else params

    def operations(self, ops: type, foreign: Any) -> type:
        """A backend's operations with the fault in them."""
        if not self.fault.operations:
            return ops
        wrong = self.fault.operations(ops, foreign)
        return wrong if self.place is None else operations.confined(ops, wrong, self.place)

    def images(self, images: Images) -> Images:
        """The images with the fault in them."""
        return self.fault.images(images) if self.fault.images else images


def _blocks(architecture: Architecture) -> Sequence[int]:
    return range(architecture.depth)


def _pairs_of_heads(architecture: Architecture) -> Sequence[tuple[int, int, int]]:
    heads = range(architecture.heads)
    return [(block, i, j) for block in range(architecture.depth) for i in heads for j in heads if i < j]


def _hybrid(architecture: Architecture) -> Sequence[None]:
    return (None,) if architecture.resnet else ()


def _plain(architecture: Architecture) -> Sequence[None]:
    """A stem of StdConv and GroupNorm does not see its input's scale."""
    return () if architecture.resnet else (None,)


def _with_pre_logits(architecture: Architecture) -> Sequence[None]:
    return (None,) if architecture.representation_size is not None else ()


def _several_heads(architecture: Architecture) -> Sequence[None]:
    return (None,) if architecture.heads > 1 and architecture.head_width > 1 else ()


def _weights(name: str, sentence: str, change: Callable, **more: Any) -> Fault:
    return Fault(name=name, sentence=sentence, weights=change, **more)


def _operations(name: str, sentence: str, change: Callable, **more: Any) -> Fault:
    return Fault(name=name, sentence=sentence, operations=change, **more)


def _inside(name: str, sentence: str, change: Callable, **more: Any) -> Fault:
    """Of the operations of encoder blocks."""
    return _operations(name, sentence, change, inside=True, **more)


def _images(name: str, sentence: str, change: Callable, **more: Any) -> Fault:
    return Fault(name=name, sentence=sentence, images=change, **more)


def _rows() -> Iterator[Fault]:
    """In the order in which they are looked for: what is everywhere first, what has many places last."""
    yield _inside("gelu_erf", "GELU is erf, not tanh", operations.gelu_erf)
    yield _inside("gelu_quick", "GELU is x sigmoid(1.702 x), not tanh", operations.gelu_quick)
    yield _inside("relu_for_gelu", "a ReLU is in the place of the GELU", operations.relu_for_gelu)
    yield _inside("layer_norm_1e-12", "LayerNorm's epsilon is 1e-12, not 1e-6", operations.layer_norm_eps(1e-12))
    yield _inside("layer_norm_1e-5", "LayerNorm's epsilon is 1e-5, not 1e-6", operations.layer_norm_eps(1e-5))
    eps = "GroupNorm's epsilon is 1e-5, not 1e-6"
    yield _operations("group_norm_1e-5", eps, operations.group_norm_eps(1e-5), places=_hybrid)
    inside = "StdConv adds its epsilon to the variance, not to the deviation"
    yield _weights("std_conv_inside", inside, weights.std_conv_inside, places=_hybrid)
    unbiased = "StdConv divides by the unbiased deviation"
    yield _weights("std_conv_unbiased", unbiased, weights.std_conv_unbiased, places=_hybrid)
    symmetric = "strided convolutions pad alike on both sides, not as SAME does"
    yield _operations("symmetric_padding", symmetric, operations.symmetric_padding, places=_hybrid)
    percent = "attention scores are 1 % too large"
    yield _inside("attention_scale", percent, operations.attention_scale(lambda head_width: 1.01))
    unscaled = "attention scores are not divided by the root of the head's width"
    yield _inside("attention_unscaled", unscaled, operations.attention_scale(lambda width: width**0.5))
    twice = "attention scores are divided by the head's width, not by its root"
    yield _inside("attention_overscaled", twice, operations.attention_scale(lambda width: width**-0.5))
    yield _operations("query_key_swapped", "query and key are swapped in every block", operations.query_key_swapped)
    yield _operations("final_norm_missing", "the last LayerNorm is missing", operations.final_norm_missing)
    tanh = "the tanh of the pre-logits is missing"
    yield _operations("tanh_missing", tanh, operations.tanh_missing, places=_with_pre_logits)
    softmax = "a softmax is in the model, whose outputs are probabilities"
    yield _operations("softmax_inside", softmax, operations.softmax_inside, backends=("numpy",))
    erratic = {"backends": ("numpy",), "erratic": True}
    rounded = "products are TensorFloat-32: operands rounded to 10 bits"
    yield _operations("tf32", rounded, operations.tf32_on(rounding=True), **erratic)
    cut = "products are TensorFloat-32: operands cut to 10 bits"
    yield _operations("tf32_cut", cut, operations.tf32_on(rounding=False), **erratic)
    yield _images("bgr", "the image's channels are blue, green, red", pictures.bgr)
    yield _images("unit_range", "the image is in [0, 1], not in [-1, 1]", pictures.unit_range)
    levels = "the image is in [0, 255], not in [-1, 1]"
    yield _images("byte_range", levels, pictures.byte_range, places=_plain)
    own = "the model takes images in [0, {}] and normalises them itself, though they are in [-1, 1]"
    yield _images("unit_range_taken", own.format(1), pictures.normalised_from_unit_range)
    yield _images("byte_range_taken", own.format(255), pictures.normalised_from_byte_range, places=_plain)
    yield _images("imagenet_mean", "the image is normalised by ImageNet's mean and deviation", pictures.imagenet_mean)
    yield _images("image_transposed", "the image's height and width are exchanged", pictures.transposed)
    yield _weights("bfloat16", "weights went through bfloat16", weights.through_bfloat16)
    yield _weights("float16", "weights went through float16", weights.through_float16)
    yield _weights("final_norm_bias", "the bias of the last LayerNorm is dropped", weights.final_norm_bias_dropped)
    yield _weights("qkv_bias", "the biases of query, key and value are dropped", weights.qkv_bias_dropped)
    yield _weights("cls_zeroed", "the class token is zero", weights.cls_zeroed)
    shifted = "the position embedding is shifted by one token"
    yield _weights("positions_shifted", shifted, weights.positions_rolled(1))
    last = "the class token's position is taken from the end of the position embedding"
    yield _weights("class_position_last", last, weights.positions_rolled(-1))
    yield _weights("positions_halved", "the second half of the position embedding is zero", weights.positions_halved)
    grid = "rows and columns of the position embedding are exchanged"
    yield _weights("positions_transposed", grid, weights.positions_transposed)
    spatial = "height and width of the convolution kernels are exchanged"
    yield _weights("kernels_turned", spatial, weights.kernels_turned)
    mixed = "heads and channels of query, key and value are interleaved the wrong way"
    yield _weights("heads_interleaved", mixed, weights.heads_interleaved, places=_several_heads)
    classes = {"places": lambda a: (tuple((i + 1) % a.num_classes for i in range(a.num_classes)),)}
    permuted = "the classes are in another order"
    yield _weights("classes_permuted", permuted, weights.classes_permuted, guess=weights.permutation, **classes)
    head = {"places": lambda a: range(a.num_classes), "guess": weights.shifted_class}
    yield _weights("head_bias", "the head's bias of class {0} is zero", weights.head_bias_zeroed, **head)
    one = "query and key are swapped in block {0}"
    yield _weights("query_key_swapped_once", one, weights.query_key_swapped, places=_blocks)
    square = {"places": weights.square_kernels}
    yield _weights("kernel_transposed", "the square kernel {0} is transposed", weights.kernel_transposed, **square)
    heads = "heads {0[1]} and {0[2]} of block {0[0]} are swapped before the output projection"
    yield _weights("heads_swapped", heads, weights.heads_swapped, places=_pairs_of_heads)
    leaf = {"places": weights.any_kernel, "searched": False}
    yield _weights("sign_flipped", "the smallest weight of {0} has the other sign", weights.sign_flipped, **leaf)
    yield _weights("weight_nan", "a weight of {0} is NaN", weights.nan_put, **leaf)


FAULTS = MappingProxyType({fault.name: fault for fault in _rows()})
"""Name → fault."""
