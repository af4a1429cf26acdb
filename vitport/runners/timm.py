"""The safetensors folder under stock timm: `timm.create_model("local-dir:<folder>", pretrained=True)`."""

from pathlib import Path

import timm
import torch

from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.runners import Subject, require, torch_models
from vitport.runners.torch_models import Model

VERSIONS = {"torch": torch.__version__, "timm": timm.__version__}


def open(subject: Subject, device: str, precision: str) -> Runner:
    """Ready to run."""
    require("timm", device, precision)
    return torch_models.runner(_model(subject.folder), device, precision)


def _model(folder: Path) -> Model:
    """Raises AssetError for a folder that is not wholly what timm's model of its configuration needs."""
    try:
        module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise AssetError(f"{folder} is refused by timm: {error!s:.500}") from error
    return Model(module, module)
