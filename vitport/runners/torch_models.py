"""What all PyTorch models that are judged have in common: they are moved, cast, asked and differentiated alike."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from vitport.arrays import Images, Logits, Params, Taps
from vitport.devices import Runner, gpu_memory
from vitport.formats import torch_module
from vitport.parity.loss import slope
from vitport.runners import Inapplicable, Subject, matching, precision_of

DTYPES = {
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}

WITHOUT_KERNEL = "not implemented for"
"""In PyTorch's words for an operation that a type has not on a device."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded model. module: holds its weights. answer: (n, 3, r, r) to logits or pre-logits."""

    module: nn.Module
    answer: Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured alike of models whose parameters have the checkpoint's names. load: the model of a subject."""

    load: Callable[[Subject], Model]

    def weights(self, subject: Subject) -> Params:
        """Its parameters."""
        return weights(self.load(subject).module)

    def gradients(
        self, subject: Subject, device: str, images: Images, labels: np.ndarray, dtype: str = "float32"
    ) -> Params:
        """By leaf of the checkpoint, and `images`."""
        return canonical(gradients(self.load(subject), device, images, labels, subject.variant, dtype))

    def taps(self, subject: Subject, images: Images) -> tuple[Taps, str]:
        """Its own intermediates."""
        return taps(self.load(subject), subject, images)


def runner(model: Model, device: str, precision: str) -> Runner:
    """The model on `device` in `precision`; its outputs as float32. Raises EnvironmentFault where there is no GPU."""
    place, dtype = torch_module.prepare(device, tf32=precision == "tf32"), DTYPES[precision]
    model.module.to(place, dtype)

    def infer(images: Images) -> tuple[Logits, str]:
        with torch.inference_mode():
            result = _answer(model, torch_module.pixels(images).to(place, dtype), precision)
        return result.float().cpu().numpy(), torch_module.reported(result)

    return Runner("PyTorch", device, infer, precision, lambda: facts(model.module, device))


def _answer(model: Model, pixels: Tensor, precision: str) -> Tensor:
    try:
        return model.answer(pixels)
    except RuntimeError as error:
        if WITHOUT_KERNEL in str(error):
            raise Inapplicable(f"PyTorch can't compute in {precision} on {pixels.device.type}: {error}") from error
        raise


def weights(module: nn.Module) -> Params:
    """The parameters of a module that has the checkpoint's names, dots for slashes."""
    return canonical({name: leaf.detach().cpu().numpy() for name, leaf in module.named_parameters()})


def in_double(model: Model, images: Images) -> Logits:
    """The outputs of the model itself, its weights and everything that it computes in float64, on the CPU."""
    model.module.to("cpu", torch.float64)
    with torch.inference_mode():
        return model.answer(torch_module.pixels(images).double()).numpy()


def taps(model: Model, subject: Subject, images: Images) -> tuple[Taps, str]:
    """Every tensor that PyTorch computed on its way, inside of TorchScript too, in float32 on the CPU."""
    torch_module.prepare("cpu")
    guide = matching.guide(subject, images)
    with torch.no_grad(), _Recorder(guide) as recorder:
        model.answer(torch_module.pixels(images))
    return matching.match(subject, images, recorder.tensors), "what PyTorch computed, operation by operation"


class _Recorder(TorchDispatchMode):
    """Keeps a copy of every tensor that could be a tap, in the order in which they were computed."""

    def __init__(self, guide: Taps) -> None:
        super().__init__()
        self.guide, self.tensors = guide, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        first = result[0] if isinstance(result, tuple | list) and result else result
        computed = isinstance(first, Tensor) and first.is_floating_point() and not func.is_view
        if computed and matching.could_be(first.shape, self.guide):
            self.tensors.append(first.detach().numpy().copy())
        return result


def gradients(
    model: Model, device: str, images: Images, labels: np.ndarray, variant: str, dtype: str = "float32"
) -> Params:
    """Of the loss by every parameter, under its own name, and by the pixels, as `images` (n, r, r, 3)."""
    place, kind = torch_module.prepare(device), getattr(torch, dtype)
    model.module.to(place, kind)
    pixels = torch_module.pixels(images).to(place, kind).requires_grad_()
    outputs = model.answer(pixels)
    outputs.backward(torch.from_numpy(slope(outputs.detach().cpu().numpy(), labels, variant)).to(place))
    found = {name: _slope(leaf) for name, leaf in model.module.named_parameters()}
    return {**found, "images": np.ascontiguousarray(_slope(pixels).transpose(0, 2, 3, 1))}


def canonical(params: Params) -> Params:
    """The names of `torch_module.ViT` as the checkpoint has them."""
    return {name.replace(".", "/"): leaf for name, leaf in params.items()}


def _slope(leaf: Tensor) -> np.ndarray:
    """Zero where the loss does not reach."""
    return (torch.zeros_like(leaf) if leaf.grad is None else leaf.grad).detach().cpu().numpy()


def facts(module: nn.Module, device: str) -> dict[str, str]:
    """What PyTorch says of itself and of the weights."""
    products = {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32}
    dtypes = {str(leaf.dtype).removeprefix("torch.") for leaf in module.parameters()}
    return {
        "precision": precision_of(dtypes, device == "cuda" and any(products.values())),
        "weights": ", ".join(sorted(dtypes)),
        "allow_tf32": ", ".join(f"{name} {allowed}" for name, allowed in products.items()),
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        "threads": str(torch.get_num_threads()),
        **gpu_memory(torch.cuda.max_memory_allocated() if device == "cuda" else None),
    }
