"""vitport's ONNX without the proof: `python -m benchmarks.onnx_step MODEL.json OUT` reads the npz and writes
`model.onnx`, as the worker of `vitport convert` does."""

import json
import sys
from pathlib import Path

from vitport import checkpoint
from vitport.formats import Export, onnx
from vitport.job_arguments import architecture_of


def main(description: str, out: str) -> None:
    """Writes the classifier."""
    model = json.loads(Path(description).read_text())
    architecture = architecture_of(model["architecture"])
    params = checkpoint.read(Path(model["checkpoint"]), architecture)
    onnx.export(Export(architecture=architecture, variant="classifier"), params, Path(out))


if __name__ == "__main__":
    main(*sys.argv[1:])
