"""The definition as a PyTorch module with the checkpoint's weights, run eagerly: no artifact, no trace."""

import torch

from vitport.arrays import Images, Logits
from vitport.devices import Runner
from vitport.formats import Export, torch_module
from vitport.runners import Subject, own, require, torch_models
from vitport.runners.torch_models import Measures, Model

expected = own

VERSIONS = {"torch": torch.__version__}


def _model(subject: Subject) -> Model:
    spec = Export(architecture=subject.architecture, variant=subject.variant)
    module = torch_module.ViT(spec, subject.params).eval()
    return Model(module, module)


_measures = Measures(_model)
weights, gradients, taps = _measures.weights, _measures.gradients, _measures.taps


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torch", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def semantic(subject: Subject, images: Images) -> tuple[Logits, str]:
    """The same in float64."""
    return torch_models.in_double(_model(subject), images), "the module itself, cast to float64"
