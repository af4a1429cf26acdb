"""What `optimum-cli export onnx` does: `… MODEL.json OUT tanh|erf` writes `OUT/model.onnx`.

erf: with `hidden_act: gelu`, as the published configs of transformers' ports have it, which is another function.
"""

import json
import sys
from pathlib import Path

from benchmarks.peers import torchvision_shim

FOLDERS = {"tanh": "transformers", "erf": "transformers_erf"}


def main(description: str, out: str, gelu: str) -> None:
    """With optimum's defaults, its own validation among them."""
    torchvision_shim.install()
    from optimum.exporters.onnx import main_export

    folder = json.loads(Path(description).read_text())[FOLDERS[gelu]]
    main_export(folder, output=out, task="image-classification")


if __name__ == "__main__":
    main(*sys.argv[1:])
