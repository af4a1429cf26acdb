"""What every client test shares: models converted once a session by the command line, the oracle, and real images.

`limit` is the artifact's own: the clients must be as exact as the gate asked of the artifact when it was made.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from vitport import checkpoint, images, manifest, metrics, npz
from vitport.architectures import parameter_shapes
from vitport.arrays import Images, Logits
from vitport.manifest import Manifest

ROOT = Path(__file__).parents[2]
VARIANTS = ("classifier", "features")

SYNTHETIC = """
schema: 1
name: synthetic
title: Random weights at another resolution, with another head
asset: {url: synthetic.npz}
architecture: {patch: 8, width: 48, depth: 2, heads: 3, mlp_width: 80}
resolution: 40
num_classes: 3
license: Apache-2.0
"""

STRESS = """
schema: 1
name: stress
title: Hybrid whose StdConv channels lie below, at and above the epsilon
asset: {url: stress.npz}
architecture: R_Ti_16
resolution: 224
num_classes: 1000
license: Apache-2.0
"""


@dataclass(frozen=True)
class Port:
    """A converted model. listing: its artifacts.json."""

    out: Path
    listing: dict
    manifest: Manifest
    checkpoint: Path

    def entry(self, variant: str, format: str) -> dict:
        (entry,) = (e for e in self.listing["artifacts"] if (e["variant"], e["format"]) == (variant, format))
        return entry

    def path(self, variant: str, format: str) -> Path:
        return self.out / self.entry(variant, format)["path"]

    def leaves(self, variant: str) -> set[str]:
        """Names of the weights that the variant has."""
        return set(parameter_shapes(self.manifest.architecture, variant))

    def fixed(self) -> Images:
        return images.fixed(self.manifest.architecture.resolution)

    def assert_exact(self, variant: str, format: str, outputs: Logits) -> None:
        """`outputs` on the fixed images are as near to the oracle as the gate asked."""
        measured = metrics.error(np.asarray(outputs), oracle(self, "fixed")[variant])
        assert measured.rms <= self.entry(variant, format)["error"]["limit"], measured
        assert measured.nonfinite == 0

    def assert_same_answers(self, variant: str, outputs: Logits) -> None:
        """On the held-out digits: no flip and exactly the stated accuracy; for features, the oracle's values."""
        truth, labels = oracle(self, "digits")[variant], digit_images()[1]
        assert np.abs(np.asarray(outputs) - truth).max() < 5e-5
        if variant == "classifier":
            answers = np.asarray(outputs).argmax(axis=1)
            assert np.array_equal(answers, truth.argmax(axis=1))
            assert int((answers == labels).sum()) == stated_accuracy(self.manifest.name)


@cache
def digit_images() -> tuple[Images, np.ndarray]:
    """The 360 held-out digits as the models take them, and their labels."""
    arrays = npz.read(ROOT / "checkpoints" / "digits_images.npz")
    return np.stack([images.squash(picture, 32) for picture in arrays["images"]]), np.asarray(arrays["labels"])


@cache
def stated_accuracy(name: str) -> int:
    """Digits of 360 that the reference gets right, as checkpoints/README.md states."""
    page = (ROOT / "checkpoints" / "README.md").read_text(encoding="utf-8")
    return int(re.search(rf"^\| `{name}\.npz` \|[^|]*\|[^|]*\| *(\d+) *\|", page, re.MULTILINE)[1])


_TRUTH: dict[tuple[Path, str], dict[str, np.ndarray]] = {}


def oracle(port: Port, which: str) -> dict[str, np.ndarray]:
    """By variant: the Flax reference in float64 on the `fixed` images or on the `digits`."""
    from vitport.reference import flax_run

    if (port.out, which) not in _TRUTH:
        pixels = port.fixed() if which == "fixed" else digit_images()[0]
        taps = flax_run.run(port.manifest.architecture, params(port), pixels, "float64")
        _TRUTH[port.out, which] = {"classifier": taps["logits"], "features": taps["pre_logits"]}
    return _TRUTH[port.out, which]


def params(port: Port) -> dict[str, np.ndarray]:
    return checkpoint.read(port.checkpoint, port.manifest.architecture)


def vitport(*arguments: object) -> str:
    """Standard output of a command that must succeed."""
    command = [sys.executable, "-m", "vitport", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def convert(path: Path, out: Path, *options: object) -> Port:
    listing = json.loads(vitport("convert", path, "--out", out, "--json", *options))
    port = manifest.read(path)
    return Port(out, listing, port, Path(port.asset.urls[0]))


def synthesize(folder: Path, text: str, *options: str) -> Path:
    """A manifest with random weights beside it."""
    name = re.search(r"^name: (\w+)$", text, re.MULTILINE)[1]
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    vitport("synthesize", path, "-o", folder / f"{name}.npz", "--seed", "0", *options)
    return path


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Port:
    return convert(ROOT / "manifests" / "digits.yaml", tmp_path_factory.mktemp("port") / "digits")


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory) -> Port:
    return convert(ROOT / "manifests" / "digits_hybrid.yaml", tmp_path_factory.mktemp("port") / "hybrid")


@pytest.fixture(scope="session")
def optional(tmp_path_factory) -> Port:
    """The digits in the formats that are made only where they are asked for."""
    out = tmp_path_factory.mktemp("port") / "optional"
    return convert(ROOT / "manifests" / "digits.yaml", out, "--format", "torch_export,stablehlo")


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Port:
    """Another resolution, another patch, no labels, a head of 3."""
    folder = tmp_path_factory.mktemp("synthetic")
    return convert(synthesize(folder, SYNTHETIC), folder / "out")


@pytest.fixture(scope="session")
def stress(tmp_path_factory) -> Port:
    """R+Ti/16 in timm's format only, on weights that its other StdConv epsilon would show on."""
    folder = tmp_path_factory.mktemp("stress")
    path = synthesize(folder, STRESS, "--profile", "stress")
    return convert(path, folder / "out", "--format", "safetensors-timm")


@pytest.fixture(params=["digits", "hybrid"])
def port(request) -> Port:
    """Each of the trained models in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(params=VARIANTS)
def variant(request) -> str:
    return request.param
