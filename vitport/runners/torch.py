"""The definition as a PyTorch module with the checkpoint's weights, run eagerly: no artifact, no trace."""

import torch

from vitport.devices import Runner
from vitport.formats import Export, torch_module
from vitport.runners import Subject, require, torch_models
from vitport.runners.torch_models import Model

VERSIONS = {"torch": torch.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("torch", device, precision)
    return torch_models.runner(_model(subject), device, precision)


def _model(subject: Subject) -> Model:
    spec = Export(architecture=subject.architecture, variant=subject.variant)
    module = torch_module.ViT(spec, subject.params).eval()
    return Model(module, module)
