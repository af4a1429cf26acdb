"""The convolutional stem of the R+ViT hybrids: a BiT ResNet without its head.

google-research/vision_transformer `vit_jax/models_resnet.py` and `models_vit.py`: every convolution is a StdConv,
every norm a GroupNorm, all padding SAME, the stride of a stage sits in the 3x3 convolution of its first unit.
"""

import re
from collections.abc import Iterator, Mapping

from vitport.architectures.config import ResNet
from vitport.architectures.ops import Ops, Tensor

STD_CONV_EPS = 1e-5
"""Added to the standard deviation, not to the variance (models_resnet.py, `weight_standardize`)."""

STD_CONV_KERNEL = r"(?:.*/)?conv(?:_root|_proj|\d)/kernel"
"""The whole name of a leaf that is standardized before it is used."""

GROUPS, GROUP_NORM_EPS = 32, 1e-6
"""Defaults of flax.linen.GroupNorm, which the checkpoints were trained with."""


def stem(resnet: ResNet, ops: Ops[Tensor], params: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """(n, h, w, 3) to (n, h / stride, w / stride, channels)."""
    x = _std_conv(ops, params, images, "conv_root", 2)
    x = ops.relu(_group_norm(ops, params, x, "gn_root"))
    x = ops.tap("root_pool", ops.max_pool(x, 3, 2))
    for unit in _units(resnet):
        x = residual_unit(ops, params, x, unit)
    return x


def residual_unit(ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor, unit: "_Unit") -> Tensor:
    """A bottleneck of 1x1, 3x3 and 1x1 convolutions beside a projected or identical shortcut."""
    name, residual = unit.name, x
    if unit.projects:
        residual = _std_conv(ops, params, x, f"{name}/conv_proj", unit.stride)
        residual = _group_norm(ops, params, residual, f"{name}/gn_proj")
    y = _std_conv(ops, params, x, f"{name}/conv1", 1)
    y = ops.relu(_group_norm(ops, params, y, f"{name}/gn1"))
    y = _std_conv(ops, params, y, f"{name}/conv2", unit.stride)
    y = ops.relu(_group_norm(ops, params, y, f"{name}/gn2"))
    y = _std_conv(ops, params, y, f"{name}/conv3", 1)
    y = _group_norm(ops, params, y, f"{name}/gn3")
    return ops.tap(name, ops.relu(ops.add(residual, y)))


def parameter_shapes(resnet: ResNet) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every leaf of the stem and its shape, in the order of the forward pass."""
    yield from _conv_and_norm("", "_root", (7, 7, 3, resnet.width))
    for unit in _units(resnet):
        inner, outer, prefix = unit.width, 4 * unit.width, f"{unit.name}/"
        if unit.projects:
            yield from _conv_and_norm(prefix, "_proj", (1, 1, unit.channels, outer))
        yield from _conv_and_norm(prefix, "1", (1, 1, unit.channels, inner))
        yield from _conv_and_norm(prefix, "2", (3, 3, inner, inner))
        yield from _conv_and_norm(prefix, "3", (1, 1, inner, outer))


class _Unit:
    """Unit `index` (from 1) of stage `stage` (from 1): its name, bottleneck width, input channels and stride."""

    def __init__(self, resnet: ResNet, stage: int, index: int) -> None:
        self.name = f"block{stage}/unit{index}"
        self.width = resnet.width * 2 ** (stage - 1)
        self.projects = index == 1
        self.stride = 2 if self.projects and stage > 1 else 1
        self.channels = 4 * self.width
        if self.projects:
            self.channels = resnet.width if stage == 1 else 2 * self.width


def _units(resnet: ResNet) -> Iterator[_Unit]:
    for stage, units in enumerate(resnet.depths, start=1):
        for index in range(1, units + 1):
            yield _Unit(resnet, stage, index)


def is_std_conv(leaf: str) -> bool:
    """Whether the leaf of this name is a StdConv kernel."""
    return re.fullmatch(STD_CONV_KERNEL, leaf) is not None


def _std_conv(ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor, name: str, stride: int) -> Tensor:
    kernel = ops.standardize(params[f"{name}/kernel"], STD_CONV_EPS)
    return ops.tap(name, ops.conv2d(x, kernel, None, stride, "SAME"))


def _group_norm(ops: Ops[Tensor], params: Mapping[str, Tensor], x: Tensor, name: str) -> Tensor:
    scale, bias = params[f"{name}/scale"], params[f"{name}/bias"]
    return ops.tap(name, ops.group_norm(x, scale, bias, GROUPS, GROUP_NORM_EPS))


def _conv_and_norm(prefix: str, suffix: str, shape: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{prefix}conv{suffix}/kernel", shape
    yield f"{prefix}gn{suffix}/scale", shape[-1:]
    yield f"{prefix}gn{suffix}/bias", shape[-1:]
