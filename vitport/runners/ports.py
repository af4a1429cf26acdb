"""Published ports: what somebody else made of the same checkpoint, whose input and output are to be found out.

A port may be hostile. Nothing of it is unpickled, no code beside it is run, and graphs that touch files are refused.
"""

import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitport.arrays import Images
from vitport.errors import AssetError, EnvironmentFault
from vitport.formats.safetensors_file import WEIGHTS, read_config

KINDS = "a SavedModel folder, a folder of timm or transformers with model.safetensors, a .onnx file, a TorchScript file"

WHICH_RUNS = "which may run anything when it is read"

CODE = "/code/"
"""Within a TorchScript archive, and no other that PyTorch writes."""


def kind(path: Path) -> str:
    """The backend that a port is made for. Raises AssetError for what is none, or would have to be unpickled."""
    found = _kind_of_folder(path) if path.is_dir() else _kind_of_file(path)
    if found is None:
        raise AssetError(f"{path} is no port that can be run: it must be {KINDS}")
    return found


def _kind_of_folder(path: Path) -> str | None:
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    if (path / WEIGHTS).is_file() and (path / "config.json").is_file():
        config = read_config(path / "config.json")
        return "transformers" if "model_type" in config else "timm" if "architecture" in config else None
    if len(list(path.glob("*.onnx"))) == 1:
        return "onnx"
    if pickles := [file.name for pattern in ("*.bin", "*.pth") for file in path.glob(pattern)]:
        raise AssetError(f"{path} has its weights in a pickle, {pickles[0]}, {WHICH_RUNS}; convert it to {WEIGHTS}")
    return None


def _kind_of_file(path: Path) -> str | None:
    if path.suffix == ".onnx":
        return "onnx"
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if any(CODE in name for name in archive.namelist()):
            return "torchscript"
    raise AssetError(f"{path} is a pickle, {WHICH_RUNS}; make TorchScript of it, or a folder with {WEIGHTS}")


def channels_first(shape: tuple, path: Path) -> bool:
    """Whether images of `shape` (batch first, None or a name for what is free) lie as NCHW; AssetError if neither."""
    if len(shape) == 4 and shape[3] == 3:
        return False
    if len(shape) == 4 and shape[1] == 3:
        return True
    raise AssetError(f"{path} takes an input of shape {list(shape)}, which is neither (n, h, w, 3) nor (n, 3, h, w)")


def arranged(images: Images, first: bool) -> np.ndarray:
    """(n, h, w, 3), or (n, 3, h, w) where channels come first."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if first else images


def choose(outputs: Mapping[str, tuple[int, ...]], width: int, path: Path) -> str:
    """The name of the one output of shape (1, width). Raises AssetError, with what there is."""
    fitting = [name for name, shape in outputs.items() if shape == (1, width)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{name} {shape}" for name, shape in sorted(outputs.items()))
    raise AssetError(f"{path} has {len(fitting)} outputs of shape (n, {width}), not one; for an image it has {there}")


def probe(call: Callable[[Images], Mapping[str, Any]], resolution: int, path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of what a port returns for one black image. Raises AssetError where it does not take it."""
    try:
        outputs = call(np.zeros((1, resolution, resolution, 3), np.float32))
        return {name: tuple(array.shape) for name, array in outputs.items()}
    except (AssetError, EnvironmentFault):
        raise
    except Exception as error:  # a framework's own, of any kind
        reason = str(error).strip().partition("\n")[0]
        raise AssetError(f"{path} does not take an image of {resolution} x {resolution}: {reason:.300}") from error


def require_inside(path: Path, locations: list[str]) -> None:
    """Raises AssetError where a model's data lies outside its own folder."""
    folder = os.path.realpath(path.parent)
    for location in locations:
        if os.path.commonpath([folder, os.path.realpath(path.parent / location)]) != folder:
            raise AssetError(f"{path} wants to read {location!r:.200}, which is outside its folder")
