"""The TorchScript archive, loaded by PyTorch."""

import torch

from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import torchscript
from vitport.runners import Subject, require, torch_models
from vitport.runners.torch_models import Model

VERSIONS = {"torch": torch.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torchscript", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def _model(subject: Subject) -> Model:
    module = torchscript.read(subject.folder / FORMATS["torchscript"].entry)
    return Model(module, module)
