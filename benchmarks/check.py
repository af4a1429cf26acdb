"""Is an artifact the checkpoint's function, and what does ONNX Runtime make of it?

python -m benchmarks.check FORMAT PATH MODEL.json       prints {"max_abs", "relative", "operators"}
python -m benchmarks.check oracle - MODEL.json          makes the logits that it is compared with, in float64
"""

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.runners import LOADERS
from vitport import checkpoint, metrics
from vitport.job_arguments import architecture_of


def main(format_: str, path: str, description: str) -> None:
    """Prints the result as one line of JSON."""
    model = json.loads(Path(description).read_text())
    if format_ == "oracle":
        _write_oracle(model)
        return
    prepare, run = LOADERS[format_](Path(path))
    error = metrics.error(run(prepare(np.load(model["images"]))), np.load(model["oracle"]))
    operators = executed(Path(path)) if format_ == "onnx" else {}
    print(json.dumps({"max_abs": error.max_abs, "relative": error.relative, "operators": operators}))


def executed(path: Path) -> dict[str, int]:
    """Operators of the graph that ONNX Runtime is left with after its own optimisations, and how many of each."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{folder}/optimized.onnx"
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
    names = (".".join(filter(None, (node.domain, node.op_type))) for node in graph.node)
    return dict(Counter(names).most_common())


def _write_oracle(model: dict) -> None:
    from vitport.reference import flax_run

    architecture = architecture_of(model["architecture"])
    params = checkpoint.read(Path(model["checkpoint"]), architecture)
    logits = flax_run.run(architecture, params, np.load(model["images"]))["logits"]
    partial = Path(model["oracle"]).with_suffix(".partial.npy")
    np.save(partial, logits)
    partial.replace(model["oracle"])


if __name__ == "__main__":
    main(*sys.argv[1:])
