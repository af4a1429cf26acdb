"""The ExportedProgram, loaded by PyTorch."""

import torch

from vitport.devices import Runner
from vitport.formats import torch_export
from vitport.runners import Subject, require, torch_models
from vitport.runners.torch_models import Model

VERSIONS = {"torch": torch.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torch_export", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def _model(subject: Subject) -> Model:
    module = torch_export.read(subject.folder)
    return Model(module, module)
