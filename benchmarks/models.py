"""What contestants convert: random weights in the published layout, once as vitport and once as each peer reads them.

Everything here is made before anything is timed. timm and Flax read the npz itself; transformers and optimum get the
weights under their own names, so that no peer's time holds a conversion of names.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.contestants import Size
from vitport import checkpoint, images, synthesize
from vitport.architectures import PUBLISHED
from vitport.formats import Export, safetensors_transformers

MANIFEST = """\
schema: 1
name: {name}
title: {title} with random weights
asset: {{url: {asset}}}
architecture: {architecture}
resolution: {resolution}
num_classes: {num_classes}
license: Apache-2.0
"""

NUMBERS = ("patch", "width", "depth", "heads", "mlp_width")


@dataclass(frozen=True, slots=True)
class Model:
    """Files of one size. description: the JSON that peers read. oracle: logits in float64, made by `check.py`."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.folder.name}.yaml"

    @property
    def description(self) -> Path:
        return self.folder / "model.json"

    @property
    def oracle(self) -> Path:
        return self.folder / "oracle.npy"


def prepare(size: Size, folder: Path, tell: Callable[[str], None]) -> Model:
    """The files of `size` below `folder`; those that are there already are kept."""
    model = Model(folder / size.name.lower().replace("_", "-"))
    if not model.description.exists():
        tell(f"{size.name}: making random weights")
        model.folder.mkdir(parents=True, exist_ok=True)
        synthesize.write(size.architecture, model.checkpoint)
        model.manifest.write_text(_manifest(size, model))
        np.save(model.folder / "images.npy", images.fixed(size.architecture.resolution))
        for_peers = _transformers(size, model) if size.rounds and size.timed is None else {}
        _write(model.description, {**_facts(size, model), **for_peers})
    return model


def _manifest(size: Size, model: Model) -> str:
    numbers = ", ".join(f"{name}: {getattr(size.architecture, name)}" for name in NUMBERS)
    return MANIFEST.format(
        name=model.folder.name,
        title=size.name,
        asset=model.checkpoint.name,
        architecture=size.name if size.name in PUBLISHED else f"{{{numbers}}}",
        resolution=size.architecture.resolution,
        num_classes=size.architecture.num_classes,
    )


def _facts(size: Size, model: Model) -> dict:
    return {
        "architecture": asdict(size.architecture),
        "checkpoint": str(model.checkpoint),
        "images": str(model.folder / "images.npy"),
        "oracle": str(model.oracle),
    }


def _transformers(size: Size, model: Model) -> dict[str, str]:
    """The weights as transformers reads them: with the tanh GELU, and with the erf one that its own configs have."""
    params = checkpoint.read(model.checkpoint, size.architecture)
    tanh, erf = model.folder / "transformers", model.folder / "transformers-erf"
    for folder in (tanh, erf):
        folder.mkdir(exist_ok=True)
    safetensors_transformers.export(Export(architecture=size.architecture, variant="classifier"), params, tanh)
    for path in tanh.iterdir():
        (erf / path.name).unlink(missing_ok=True)
        os.link(path, erf / path.name)
    config = json.loads((tanh / "config.json").read_text())
    (erf / "config.json").unlink()
    (erf / "config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}, indent=2))
    return {"transformers": str(tanh), "transformers_erf": str(erf)}


def _write(path: Path, value: dict) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=2))
    partial.replace(path)
