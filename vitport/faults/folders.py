"""Faults of what an artifact's folder says beside its weights: of operations, of classes, and of pictures.

Clients believe it: whoever changes a setting changes what they compute, what they call it, or what they are fed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from vitport.architectures import Architecture
from vitport.formats.transformers_config import PREPROCESSOR
from vitport.layouts import huggingface, timm

SETTINGS = MappingProxyType(
    {
        "timm": {
            "gelu_erf": {"act_layer": "gelu"},
            "gelu_quick": {"act_layer": "quick_gelu"},
            "relu_for_gelu": {"act_layer": "relu"},
        },
        "transformers": {
            "gelu_erf": {"hidden_act": "gelu"},
            "gelu_quick": {"hidden_act": "quick_gelu"},
            "relu_for_gelu": {"hidden_act": "relu"},
            "layer_norm_1e-12": {"layer_norm_eps": 1e-12},
            "layer_norm_1e-5": {"layer_norm_eps": 1e-5},
        },
    }
)
"""Backend → fault of operations → what a folder's `config.json` says then: the operations are the client's own."""

LABELS_SHIFTED = "labels_shifted"
"""A fault of folders that name their classes."""

CONFIGURED = MappingProxyType(
    {"timm": timm, "transformers": huggingface, "onnx": huggingface, "onnx-reference": huggingface}
)
"""Backend whose folders name classes and prepare pictures → the layout that says of which architectures they can."""

IMAGENET_MEAN, BICUBIC, LARGER = [0.485, 0.456, 0.406], 3, 256
"""What other networks are fed: their mean, PIL's number of their interpolation, their size before a crop."""


@dataclass(frozen=True, slots=True)
class Misprepared:
    """A fault of what a folder tells its clients to make of a picture: the settings in each library's words."""

    name: str
    sentence: str
    timm: dict
    transformers: dict


MISPREPARED = MappingProxyType(
    {
        fault.name: fault
        for fault in (
            Misprepared(
                "preprocessor_mean",
                "clients are told ImageNet's mean, not 0.5",
                {"mean": IMAGENET_MEAN},
                {"image_mean": IMAGENET_MEAN},
            ),
            Misprepared(
                "preprocessor_bicubic",
                "clients are told to resize with another interpolation",
                {"interpolation": "bicubic"},
                {"resample": BICUBIC},
            ),
            Misprepared(
                "preprocessor_size",
                "clients are told another size than the model takes",
                {"input_size": [3, LARGER, LARGER]},
                {"size": {"height": LARGER, "width": LARGER}},
            ),
        )
    }
)
"""Name → fault of a folder's preprocessor."""

SENTENCES = MappingProxyType(
    {
        LABELS_SHIFTED: "every class has the name of the next",
        **{name: each.sentence for name, each in MISPREPARED.items()},
    }
)
"""Name → fault of what a folder says of classes and pictures, in words."""


def names(backend: str, architecture: Architecture) -> list[str]:
    """Those of `SENTENCES`, where the backend's folder says what classes are called and pictures become."""
    configured = backend in CONFIGURED and not CONFIGURED[backend].inapplicable(architecture)
    return list(SENTENCES) if configured else []


def labels(fault: str, right: Sequence[str]) -> tuple[str, ...]:
    """What the classes are called under a fault, which may be another one."""
    shift = int(fault == LABELS_SHIFTED)
    return (*right[shift:], *right[:shift])


def change(folder: Path, backend: str, fault: str) -> None:
    """Changes what a folder says where the fault is one of settings."""
    _set(folder / "config.json", "model_args", SETTINGS.get(backend, {}).get(fault, {}))
    if fault in MISPREPARED:
        _misprepare(folder, backend, MISPREPARED[fault])


def _misprepare(folder: Path, backend: str, fault: Misprepared) -> None:
    if backend == "timm":
        _set(folder / "config.json", "pretrained_cfg", fault.timm)
    else:
        _set(folder / PREPROCESSOR, "", fault.transformers)


def _set(path: Path, section: str, changes: dict) -> None:
    """Changes settings in a JSON file: in its `section`, if it has one."""
    if changes:
        values = json.loads(path.read_text())
        values.get(section, values).update(changes)
        path.write_text(json.dumps(values))
