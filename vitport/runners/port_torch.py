"""Published ports in PyTorch: of a TorchScript archive, which layout and which output; of any, whether it fits."""

import numpy as np
import torch
from torch import Tensor

from vitport.formats import torch_module, torchscript
from vitport.runners import Subject, ports
from vitport.runners.torch_models import Model


def torchscript_of(subject: Subject) -> Model:
    """An archive says nothing of its input, so both layouts are tried.

    Raises AssetError where it takes neither, or returns not one output of the right width.
    """
    module, path = torchscript.read(subject.folder), subject.folder

    @torch.inference_mode()  # as every run: TorchScript keeps the graph that it made for its first one
    def call(pixels: np.ndarray) -> dict[str, Tensor]:
        return _tensors(module(torch.from_numpy(pixels)))

    layouts = ports.layouts(None, torch_module.INPUT.layout, path)
    layout, shapes = ports.probe(call, layouts, subject.architecture.resolution, path)
    name = ports.choose(shapes, subject.width, path)
    if layout == torch_module.INPUT.layout:
        return Model(module, lambda pixels: _tensors(module(pixels))[name])
    return Model(module, lambda pixels: _tensors(module(pixels.permute(0, 2, 3, 1)))[name])


def fitting(model: Model, subject: Subject) -> Model:
    """The model of a port whose layout is known, once it has answered.

    Raises AssetError where it does not take an image of this resolution, or has another number of classes.
    """

    @torch.inference_mode()
    def call(pixels: np.ndarray) -> dict[str, Tensor]:
        return {"logits": model.answer(torch.from_numpy(pixels))}

    layouts, side = (torch_module.INPUT.layout,), subject.architecture.resolution
    _, shapes = ports.probe(call, layouts, side, subject.folder)
    ports.choose(shapes, subject.width, subject.folder)
    return model


def _tensors(outputs: object) -> dict[str, Tensor]:
    """Those among whatever a module returns, by name or number."""
    if isinstance(outputs, Tensor):
        return {"0": outputs}
    pairs = outputs.items() if isinstance(outputs, dict) else enumerate(outputs)
    return {str(name): tensor for name, tensor in pairs if isinstance(tensor, Tensor)}
