"""Lets torchvision be imported beside a torch that its compiled operators were not built for (a CPU torch, usually).

timm imports torchvision, and torchvision refuses to be imported without its operators. The two that it asks for while
it is imported are declared, without a body: no ViT calls them.
"""

import sys
from importlib import import_module

ARGUMENTS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

OPERATORS = ("nms", "qnms")
"""Those that torchvision/_meta_registrations.py names unconditionally."""

_LIBRARIES: list = []
"""Kept alive: an operator disappears with the library object that declared it."""


def declare() -> None:
    """Makes `import torchvision` work; does nothing where it works by itself or torchvision is not installed."""
    try:
        import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _declare_operators()
        import_module("torchvision")


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in OPERATORS:
        library.define(f"{name}{ARGUMENTS}")
    _LIBRARIES.append(library)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
