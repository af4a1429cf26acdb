"""The definition as a PyTorch module, which TorchScript and torch.export are traced from.

Parameters keep the checkpoint's names (dots for slashes) and axes, so a gradient is the gradient of a published leaf.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from vitport.architectures import forward, parameter_shapes
from vitport.arrays import Images, Logits, Params
from vitport.backends.torch import TorchOps
from vitport.devices import Runner, absent
from vitport.formats import Export, Port

INPUT = Port("pixel_values", "NCHW")

FACTS = "vitport.json"
"""Extra file inside an archive, with its provenance."""

TRACED_BATCH = 2
"""Not 1, which a tracer may take for a broadcast."""


class ViT(nn.Module):
    """(n, 3, r, r) to logits or pre-logits."""

    def __init__(self, spec: Export, params: Params) -> None:
        super().__init__()
        self._spec = spec
        for name in parameter_shapes(spec.architecture, spec.variant):
            *path, leaf = name.split("/")
            _descend(self, path).register_parameter(
                leaf, nn.Parameter(torch.from_numpy(np.require(params[name], requirements="CA")))
            )

    def forward(self, pixel_values: Tensor) -> Tensor:
        weights = {name.replace(".", "/"): leaf for name, leaf in self.named_parameters()}
        images = pixel_values.permute(0, 2, 3, 1)
        return forward(self._spec.architecture, TorchOps(), weights, images, self._spec.variant)


def example(spec: Export) -> Tensor:
    """What a tracer sees: black images."""
    side = spec.architecture.resolution
    return torch.zeros(TRACED_BATCH, 3, side, side)


def runner(model: Callable[[Tensor], Tensor], device: str) -> Runner:
    """A loaded model, which is on `device` already."""

    def infer(images: Images) -> tuple[Logits, str]:
        with torch.inference_mode():
            result = model(pixels(images).to(device))
        return result.cpu().numpy(), reported(result)

    return Runner("PyTorch", device, infer)


def pixels(images: Images) -> Tensor:
    """(n, r, r, 3) as a tensor (n, 3, r, r) of its own."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def reported(result: Tensor) -> str:
    """PyTorch's words for where a tensor is."""
    name = torch.cuda.get_device_name(result.device) if result.is_cuda else "PyTorch"
    return f"{result.device.type}: {name}"


def prepare(device: str, tf32: bool = False) -> str:
    """Makes products on `device` full float32, or TensorFloat-32; returns it.

    Raises EnvironmentFault where PyTorch has no such device.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    if device == "cuda" and not torch.cuda.is_available():
        raise absent("PyTorch", f"torch {torch.__version__}")
    return device


def _descend(module: nn.Module, path: list[str]) -> nn.Module:
    """The submodule at `path`, made where it is not there yet."""
    for name in path:
        if not hasattr(module, name):
            module.add_module(name, nn.Module())
        module = getattr(module, name)
    return module
