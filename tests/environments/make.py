"""Makes what every environment is given, with vitport: `python tests/environments/make.py [MODEL...]`.

For each row of `models.MODELS`, or those named, a folder in build/clients: the converted model, its checkpoint, two
images and what the float64 oracle says of them.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from models import MODELS, Model, named
from PIL import Image

from vitport import checkpoint, images, manifest
from vitport.reference import flax_run

ROOT = Path(__file__).parents[2]

MANIFEST = """
schema: 1
name: {name}
title: Random weights in the published layout
asset: {{url: checkpoint.npz}}
architecture: {architecture}
resolution: {resolution}
num_classes: 1000
license: Apache-2.0
"""


def main(names: list[str]) -> None:
    for model in [named(name) for name in names] or MODELS:
        print(f"making {model}", flush=True)
        make(model)


def make(model: Model) -> None:
    """One model, anew."""
    shutil.rmtree(model.folder, ignore_errors=True)
    model.folder.mkdir(parents=True)
    source = synthetic(model) if model.architecture else trained(model)
    chosen = ["--format", ",".join(model.formats), "--opset", model.opset]
    vitport("convert", source, "--asset", model.checkpoint, "--out", model.folder / "port", *chosen)
    witness(model, source)


def synthetic(model: Model) -> Path:
    """A manifest, with random weights beside it."""
    path = model.folder / f"{model}.yaml"
    path.write_text(MANIFEST.format(**vars(model)), encoding="utf-8")
    vitport("synthesize", path, "-o", model.checkpoint, "--seed", "0")
    return path


def trained(model: Model) -> Path:
    """The manifest that comes along, its checkpoint copied."""
    path = ROOT / "manifests" / f"{model.name.partition('_opset')[0]}.yaml"
    shutil.copy(manifest.read(path).asset.urls[0], model.checkpoint)
    return path


def witness(model: Model, source: Path) -> None:
    """The images, as arrays and as pictures, and the oracle's outputs on them."""
    architecture = manifest.read(source).architecture
    pixels = images.fixed(architecture.resolution)
    np.save(model.folder / "images.npy", pixels)
    for index, levels in enumerate(np.round(pixels * 127.5 + 127.5).astype(np.uint8)):
        assert np.array_equal(images.normalise(levels), pixels[index]), "a picture holds levels"
        Image.fromarray(levels).save(model.folder / f"picture_{index}.png")
    taps = flax_run.run(architecture, checkpoint.read(model.checkpoint, architecture), pixels, "float64")
    np.savez(model.folder / "oracle.npz", classifier=taps["logits"], features=taps["pre_logits"])


def vitport(*arguments: object) -> None:
    command = [sys.executable, "-m", "vitport", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"vitport {json.dumps([*map(str, arguments)])} failed:\n{done.stderr}")


if __name__ == "__main__":
    main(sys.argv[1:])
