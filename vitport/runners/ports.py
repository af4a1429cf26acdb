"""Published ports: what somebody else made of the same checkpoint, whose input and output are to be found out.

A port may be hostile. Nothing of it is unpickled, no code beside it is run, and graphs that touch files are refused.
"""

import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vitport.arrays import Images
from vitport.errors import AssetError, EnvironmentFault
from vitport.formats.safetensors_file import WEIGHTS, read_config

KINDS = "a SavedModel folder, a folder of timm or transformers with model.safetensors, a .onnx file, a TorchScript file"

WHICH_RUNS = "which may run anything when it is read"

AXES = MappingProxyType({"NHWC": (0, 1, 2, 3), "NCHW": (0, 3, 1, 2)})
"""Where the axes of (n, h, w, 3) lie, by layout."""

CHANNELS = 3
"""The axis of colours in (n, h, w, 3)."""

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
    if len(onnx_files(path)) == 1:
        return "onnx"
    if pickles := [file.name for pattern in ("*.bin", "*.pth") for file in path.glob(pattern)]:
        raise AssetError(f"{path} has its weights in a pickle, {pickles[0]}, {WHICH_RUNS}; convert it to {WEIGHTS}")
    return None


def onnx_files(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.onnx") if path.is_file()]


def _kind_of_file(path: Path) -> str | None:
    """Of a pipe or a device, whose reading may never end, there is none."""
    if not path.is_file():
        return None
    if path.suffix == ".onnx":
        return "onnx"
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        if any(CODE in name for name in archive.namelist()):
            return "torchscript"
    raise AssetError(f"{path} is a pickle, {WHICH_RUNS}; make TorchScript of it, or a folder with {WEIGHTS}")


def layouts(shape: Sequence[object] | None, usual: str, path: Path) -> tuple[str, ...]:
    """How images may lie in an input of `shape` (None, or an axis that is no number, says nothing), likeliest first.

    usual: the framework's. Raises AssetError where they can't lie in it.
    """
    axes = [None] * 4 if shape is None else [axis if isinstance(axis, int) else None for axis in shape]
    channels = {layout: axes[order.index(CHANNELS)] for layout, order in AXES.items() if len(axes) == 4}
    fitting = [layout for layout, axis in channels.items() if axis in (None, 3)]
    if not fitting:
        raise AssetError(
            f"{path} takes an input of shape {list(shape)}, which is neither (n, h, w, 3) nor (n, 3, h, w)"
        )
    return tuple(sorted(fitting, key=lambda layout: (channels[layout] is None, layout != usual)))


def arranged(images: Images, layout: str) -> np.ndarray:
    """(n, h, w, 3) as `layout` has it."""
    return np.ascontiguousarray(images.transpose(AXES[layout]))


def choose(outputs: Mapping[str, tuple[int, ...]], width: int, path: Path) -> str:
    """The name of the one output of shape (1, width). Raises AssetError, with what there is."""
    fitting = [name for name, shape in outputs.items() if shape == (1, width)]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(f"{name} {shape}" for name, shape in sorted(outputs.items()))
    raise AssetError(f"{path} has {len(fitting)} outputs of shape (n, {width}), not one; for an image it has {there}")


def probe(
    call: Callable[[np.ndarray], Mapping[str, Any]], layouts: Sequence[str], side: int, path: Path
) -> tuple[str, dict[str, tuple[int, ...]]]:
    """The first of the layouts in which a port takes an image, and the shapes of what it returns for a black one.

    side: of the image. Raises AssetError where the port takes it in none.
    """
    problems = []
    for layout in layouts:
        try:
            outputs = call(arranged(np.zeros((1, side, side, 3), np.float32), layout))
            return layout, {name: tuple(array.shape) for name, array in outputs.items()}
        except (AssetError, EnvironmentFault):
            raise
        except Exception as error:  # a framework's own, of any kind
            problems.append(error)
    reason = str(problems[0]).strip().partition("\n")[0]
    raise AssetError(f"{path} does not take an image of {side} x {side}: {reason:.300}") from problems[0]


def require_inside(path: Path, locations: list[str]) -> None:
    """Raises AssetError where a model's data lies outside its own folder."""
    folder = os.path.realpath(path.parent)
    for location in locations:
        if "\0" in location or os.path.commonpath([folder, os.path.realpath(path.parent / location)]) != folder:
            raise AssetError(f"{path} wants to read {location!r:.200}, which is outside its folder")
