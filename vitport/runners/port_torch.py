"""A published TorchScript archive of any maker: which order of the input's axes, which output."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vitport.arrays import Images
from vitport.errors import AssetError
from vitport.formats import torch_module, torchscript
from vitport.runners import Subject, ports
from vitport.runners.torch_models import Model


def torchscript_of(subject: Subject) -> Model:
    """An archive says nothing of its input, so channels are tried first, and then last.

    Raises AssetError where it takes neither, or returns not one output of the right width.
    """
    module, path = torchscript.read(subject.folder), subject.folder
    takes_first, takes_last = (_answers(module, order) for order in (lambda x: x, lambda x: x.permute(0, 2, 3, 1)))
    try:
        answers, shapes = takes_first, _probe(takes_first, subject)
    except AssetError:
        answers, shapes = takes_last, _probe(takes_last, subject)
    name = ports.choose(shapes, subject.width, path)
    return Model(module, lambda pixels: answers(pixels)[name])


def _answers(module: nn.Module, order: Callable[[Tensor], Tensor]) -> Callable[[Tensor], dict[str, Tensor]]:
    """The tensors of whatever the module returns, by name or number."""

    def answers(pixels: Tensor) -> dict[str, Tensor]:
        outputs = module(order(pixels))
        if isinstance(outputs, Tensor):
            return {"0": outputs}
        pairs = outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
        return {str(name): tensor for name, tensor in pairs if isinstance(tensor, Tensor)}

    return answers


def _probe(answers: Callable[[Tensor], dict[str, Tensor]], subject: Subject) -> dict[str, tuple[int, ...]]:
    """In inference mode, as every run: TorchScript keeps the graph that it made for its first one."""

    @torch.inference_mode()
    def call(images: Images) -> dict[str, Tensor]:
        return answers(torch_module.pixels(images))

    return ports.probe(call, subject.architecture.resolution, subject.folder)
