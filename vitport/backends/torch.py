"""The definition in PyTorch: weights stay in the checkpoint's axes, convolutions see channels-last memory as views."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from vitport.architectures import Architecture, forward
from vitport.architectures.ops import Padding
from vitport.arrays import Images, Params, Taps
from vitport.backends.numpy import CENTRINGS, same_padding


def run(architecture: Architecture, params: Params, images: Images, variant: str, dtype: str = "float64") -> Taps:
    """Every tap of the eager forward pass on the CPU, all arithmetic in `dtype`."""
    ops = TorchOps(remember=True)
    weights = {name: torch.tensor(leaf).to(getattr(torch, dtype)) for name, leaf in params.items()}
    with torch.inference_mode():
        forward(architecture, ops, weights, torch.tensor(images).to(getattr(torch, dtype)), variant)
    return {name: tensor.numpy() for name, tensor in ops.taps.items()}


class TorchOps:
    """Operations on torch tensors; traceable, with only the batch size left open."""

    def __init__(self, remember: bool = False) -> None:
        self.taps: dict[str, Tensor] = {}
        self._remember = remember

    def standardize(self, kernel: Tensor, eps: float) -> Tensor:
        for _ in CENTRINGS:
            kernel = kernel - kernel.mean(dim=(0, 1, 2), keepdim=True)
        return kernel / (kernel.square().mean(dim=(0, 1, 2), keepdim=True).sqrt() + eps)

    def conv2d(self, x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, padding: Padding) -> Tensor:
        window = int(kernel.shape[0])
        if padding == "VALID" and window == stride:
            return _embed_patches(x, kernel, bias)
        channels_first = _pad_same(x, window, stride, 0.0) if padding == "SAME" else x.permute(0, 3, 1, 2)
        y = functional.conv2d(channels_first, kernel.permute(3, 2, 0, 1), bias, stride)
        return y.permute(0, 2, 3, 1)

    def max_pool(self, x: Tensor, window: int, stride: int) -> Tensor:
        padded = _pad_same(x, window, stride, float("-inf"))
        return functional.max_pool2d(padded, window, stride).permute(0, 2, 3, 1)

    def group_norm(self, x: Tensor, scale: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        """Over channels-first memory: PyTorch's channels-last kernel sums naively, 10 times less exactly."""
        channels_first = x.permute(0, 3, 1, 2).contiguous()
        return functional.group_norm(channels_first, groups, scale, bias, eps).permute(0, 2, 3, 1)

    def layer_norm(self, x: Tensor, scale: Tensor, bias: Tensor, eps: float) -> Tensor:
        return functional.layer_norm(x, [int(scale.shape[0])], scale, bias, eps)

    def dense(self, x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
        return functional.linear(x, kernel.t(), bias)

    def attention(self, queries: Tensor, tokens: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        heads = [int(size) for size in weights["query/bias"].shape]
        rows = queries if queries.dim() == tokens.dim() else queries.unsqueeze(1)
        query, key, value = (
            self.dense(x, weights[f"{part}/kernel"].flatten(1), weights[f"{part}/bias"].flatten())
            .unflatten(-1, heads)
            .transpose(1, 2)
            for part, x in (("query", rows), ("key", tokens), ("value", tokens))
        )
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        mixed = mixed if rows is queries else mixed.squeeze(1)
        return self.dense(mixed, weights["out/kernel"].flatten(0, 1), weights["out/bias"])

    def gelu_tanh(self, x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    def relu(self, x: Tensor) -> Tensor:
        return functional.relu(x)

    def tanh(self, x: Tensor) -> Tensor:
        return torch.tanh(x)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y

    def flatten_grid(self, x: Tensor) -> Tensor:
        return x.flatten(1, 2)

    def prepend_token(self, token: Tensor, x: Tensor) -> Tensor:
        return torch.cat([token.expand(x.shape[0], -1, -1), x], dim=1)

    def first_token(self, x: Tensor) -> Tensor:
        return x[:, 0]

    def tap(self, name: str, x: Tensor) -> Tensor:
        if self._remember:
            self.taps[name] = x
        return x


def _embed_patches(x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
    """Non-overlapping patches as one matrix product: what a convolution of equal stride and window is."""
    side = int(kernel.shape[0])
    patches = x.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3).flatten(3)
    return functional.linear(patches, kernel.flatten(0, 2).t(), bias)


def _pad_same(x: Tensor, window: int, stride: int, value: float) -> Tensor:
    """Channels first, padded for SAME; a copy only where there is something to pad."""
    (top, bottom), (left, right) = (same_padding(int(size), window, stride) for size in x.shape[1:3])
    channels_first = x.permute(0, 3, 1, 2)
    if not any((top, bottom, left, right)):
        return channels_first
    return functional.pad(channels_first, (left, right, top, bottom), value=value)
