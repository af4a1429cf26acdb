"""The ExportedProgram, loaded by PyTorch."""

import torch

from vitport.arrays import Images, Logits, Params, Taps
from vitport.devices import Runner
from vitport.formats import torch_export
from vitport.runners import Subject, own, require, torch_models
from vitport.runners.torch_models import Model

expected = own

VERSIONS = {"torch": torch.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torch_export", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def weights(subject: Subject) -> Params:
    """Its parameters, which have the checkpoint's names."""
    return torch_models.weights(_model(subject).module)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The same in float64."""
    return torch_models.in_double(_model(subject), images), "the program itself, cast to float64"


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Its own intermediates."""
    return torch_models.taps(_model(subject), subject, images)


def _model(subject: Subject) -> Model:
    module = torch_export.read(subject.folder)
    return Model(module, module)
