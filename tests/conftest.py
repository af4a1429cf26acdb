"""Fixtures that many test files share: a small model of each kind, with its checkpoint, images and oracle."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import pytest
import runs
import small

collect_ignore = ["environments"]
"""Clients that have to be installed elsewhere: `nox -s clients`."""


@pytest.fixture(scope="session")
def plain() -> small.Case:
    """A Vision Transformer without a stem."""
    return small.case("plain")


@pytest.fixture(scope="session")
def hybrid() -> small.Case:
    """A residual stem of two stages, root width 32."""
    return small.case("hybrid")


@pytest.fixture(scope="session")
def stem() -> small.Case:
    """A stem of root convolution and pool alone, as in R+Ti/16; timm has a model for it."""
    return small.case("stem")


@pytest.fixture(scope="session")
def representation() -> small.Case:
    """A 2020 ImageNet-21k model with a `pre_logits` layer."""
    return small.case("representation")


@pytest.fixture(scope="session", params=list(small.ARCHITECTURES))
def each(request: pytest.FixtureRequest) -> small.Case:
    """Each small model in turn."""
    return small.case(request.param)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All ten artifacts of digits; not to be changed."""
    out = tmp_path_factory.mktemp("whole") / "digits"
    runs.succeed(runs.DIGITS, "--out", out)
    return out


@pytest.fixture
def earlier(whole: Path, tmp_path: Path) -> Path:
    """A folder that holds a whole conversion, to be spoilt."""
    return shutil.copytree(whole, tmp_path / "earlier")
