"""The definition as a PyTorch module with the checkpoint's weights, run eagerly: no artifact, no trace."""

import numpy as np
import torch

from vitport.arrays import Images, Logits, Params, Taps
from vitport.devices import Runner
from vitport.formats import Export, torch_module
from vitport.runners import Subject, own, require, torch_models
from vitport.runners.torch_models import Model

expected = own

VERSIONS = {"torch": torch.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torch", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def weights(subject: Subject) -> Params:
    """Its parameters, which have the checkpoint's names."""
    return torch_models.weights(_model(subject).module)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The same in float64."""
    return torch_models.in_double(_model(subject), images), "the module itself, cast to float64"


def gradients(subject: Subject, device: str, images: Images, labels: np.ndarray, dtype: str = "float32") -> Params:
    """By leaf of the checkpoint, and `images`."""
    found = torch_models.gradients(_model(subject), device, images, labels, subject.variant, dtype)
    return torch_models.canonical(found)


def taps(subject: Subject, images: Images) -> tuple[Taps, str]:
    """Its own intermediates."""
    return torch_models.taps(_model(subject), subject, images)


def _model(subject: Subject) -> Model:
    spec = Export(architecture=subject.architecture, variant=subject.variant)
    module = torch_module.ViT(spec, subject.params).eval()
    return Model(module, module)
