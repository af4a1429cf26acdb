"""The TorchScript archive, loaded by PyTorch."""

import torch

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import torchscript
from vitport.runners import Subject, own, port_torch, require, torch_models
from vitport.runners.torch_models import Measures, Model

expected = own

VERSIONS = {"torch": torch.__version__}


def _model(subject: Subject) -> Model:
    if subject.port:
        return port_torch.torchscript_of(subject)
    module = torchscript.read(subject.folder / FORMATS["torchscript"].entry)
    return Model(module, module)


_measures = Measures(_model)
weights, gradients, taps = _measures.weights, _measures.gradients, _measures.taps


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torchscript", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str] | None:
    """The same in float64; None of a port that can't be cast."""
    try:
        return torch_models.in_double(_model(subject), images), "the archive itself, cast to float64"
    except RuntimeError:
        if subject.port:
            return None
        raise
