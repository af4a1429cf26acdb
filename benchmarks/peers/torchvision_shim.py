"""vitport's own cure for torchvision beside a CPU torch, without the import of vitport in a peer's time."""

import importlib.util
from pathlib import Path

PATH = Path(__file__).resolve().parents[2] / "vitport" / "runners" / "torchvision_operators.py"


def install() -> None:
    """Makes `import torchvision` work, where it can be."""
    specification = importlib.util.spec_from_file_location("torchvision_operators", PATH)
    operators = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(operators)
    operators.declare()
