"""The models that every client is given: what `make.py` converts, and how a test finds the parts of one.

Nothing here needs vitport: the environments hold one client each, and NumPy.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[2] / "build" / "clients"
VARIANTS = ("classifier", "features")

PLAIN = ("saved_model", "torchscript", "onnx", "safetensors-transformers", "safetensors-timm")
HYBRID = ("saved_model", "torchscript", "onnx", "safetensors-timm")


@dataclass(frozen=True)
class Model:
    """One row of the table below, and the folder that `make.py` filled for it.

    architecture and resolution: of random weights; empty for the trained model of that name that comes along.
    opset: of its ONNX.
    """

    name: str
    formats: tuple[str, ...]
    architecture: str = ""
    resolution: int = 32
    opset: int = 20

    def __str__(self) -> str:
        return self.name

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def checkpoint(self) -> Path:
        """The published npz."""
        return self.folder / "checkpoint.npz"

    @property
    def pictures(self) -> list[Path]:
        """The images as PNG files of the model's own size: no preprocessing resizes them."""
        return sorted(self.folder.glob("picture_*.png"))

    def images(self) -> np.ndarray:
        """float32 (n, resolution, resolution, 3) in [-1, 1]."""
        return np.load(self.folder / "images.npy")

    def planar(self) -> np.ndarray:
        """The images as (n, 3, resolution, resolution)."""
        return np.ascontiguousarray(self.images().transpose(0, 3, 1, 2))

    def truth(self, variant: str) -> np.ndarray:
        """float64 (n, classes or features): the oracle on the images."""
        with np.load(self.folder / "oracle.npz") as arrays:
            return arrays[variant]

    def entry(self, variant: str, format: str) -> dict:
        """What artifacts.json says of one artifact."""
        listed = _listing(self.folder)["artifacts"]
        (entry,) = (each for each in listed if (each["variant"], each["format"]) == (variant, format))
        return entry

    def path(self, variant: str, format: str) -> Path:
        """The file or folder that a client opens."""
        return self.folder / "port" / self.entry(variant, format)["path"]

    def yardstick(self, variant: str) -> float:
        """The RMS error of a good float32 implementation on the images."""
        return _listing(self.folder)["reference"][variant]["yardstick"]["rms"]


MODELS = (
    Model("digits", PLAIN),
    Model("digits_hybrid", HYBRID),
    Model("ti_16", PLAIN, "Ti_16", 224),
    Model("ti_16_384", PLAIN, "Ti_16", 384),
    Model("r_ti_16", HYBRID, "R_Ti_16", 224),
    Model("digits_opset17", ("onnx",), opset=17),
    Model("ti_16_opset17", ("onnx",), "Ti_16", 224, opset=17),
    Model("r_ti_16_opset17", ("onnx",), "R_Ti_16", 224, opset=17),
)


def having(format: str, opset: int | None = None) -> list[Model]:
    """The models that come in a format, of one opset if asked."""
    return [model for model in MODELS if format in model.formats and opset in (None, model.opset)]


def named(name: str) -> Model:
    (model,) = (model for model in MODELS if model.name == name)
    return model


@cache
def _listing(folder: Path) -> dict:
    return json.loads((folder / "port" / "artifacts.json").read_text(encoding="utf-8"))
