"""Ports as they are published: `python scripts/stock_ports.py build/digits build/stock`.

The safetensors folders of a conversion, with the configuration that everybody uses: nothing about GELU for timm, `gelu`
for transformers. Both then compute the erf GELU, where the weights were trained with the tanh one.
"""

import json
import shutil
import sys
from pathlib import Path


def main(converted: Path, stock: Path) -> None:
    """Writes `stock`/timm and `stock`/transformers."""
    for name, change in (("timm", _timm), ("transformers", _transformers)):
        folder = stock / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(converted / "classifier" / f"safetensors-{name}", folder)
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def _timm(config: dict) -> None:
    del config["model_args"]["act_layer"]


def _transformers(config: dict) -> None:
    config["hidden_act"] = "gelu"


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
