"""Artifacts in the hands of the software they are for: what a person would type, on really converted models."""

import os
from importlib import import_module
from types import ModuleType

import pytest

from vitport.runners import torchvision_operators

REQUIRE = "VITPORT_REQUIRE_CLIENTS"
"""Set to 1 where every client must be there: a missing one then fails, so that nothing is silently green."""

NEED_TORCHVISION = ("timm", "transformers")


def need(name: str) -> ModuleType:
    """A client's module; the test module is skipped where it is not installed, or fails under `REQUIRE`."""
    if name in NEED_TORCHVISION:
        torchvision_operators.declare()
    try:
        return import_module(name)
    except ImportError as error:
        if os.environ.get(REQUIRE) == "1":
            raise
        pytest.skip(f"client {name} is not installed: {error}", allow_module_level=True)
