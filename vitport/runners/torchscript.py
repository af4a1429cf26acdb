"""The TorchScript archive, loaded by PyTorch."""

import numpy as np
import torch

from vitport.arrays import Images, Logits, Params, Taps
from vitport.devices import Runner
from vitport.format_table import FORMATS
from vitport.formats import torchscript
from vitport.runners import Subject, own, port_torch, require, torch_models
from vitport.runners.torch_models import Model

expected = own

VERSIONS = {"torch": torch.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torchscript", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def weights(subject: Subject) -> Params:
    """Its parameters, which have the checkpoint's names."""
    return torch_models.weights(_model(subject).module)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str] | None:
    """The same in float64; None of a port that can't be cast."""
    try:
        return torch_models.in_double(_model(subject), images), "the archive itself, cast to float64"
    except RuntimeError:
        if subject.port:
            return None
        raise


def gradients(subject: Subject, device: str, images: Images, labels: np.ndarray, dtype: str = "float32") -> Params:
    """By leaf of the checkpoint, and `images`."""
    found = torch_models.gradients(_model(subject), device, images, labels, subject.variant, dtype)
    return torch_models.canonical(found)


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Its own intermediates."""
    return torch_models.taps(_model(subject), subject, images)


def _model(subject: Subject) -> Model:
    if subject.port:
        return port_torch.torchscript_of(subject)
    module = torchscript.read(subject.folder / FORMATS["torchscript"].entry)
    return Model(module, module)
