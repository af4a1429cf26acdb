"""The ExportedProgram, loaded by PyTorch."""

import torch

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.formats import torch_export
from vitport.runners import Subject, own, require, torch_models
from vitport.runners.torch_models import Measures, Model

expected = own

VERSIONS = {"torch": torch.__version__}


def _model(subject: Subject) -> Model:
    module = torch_export.read(subject.folder)
    return Model(module, module)


_measures = Measures(_model)
weights, taps = _measures.weights, _measures.taps


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torch_export", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The same in float64."""
    return torch_models.in_double(_model(subject), images), "the program itself, cast to float64"
