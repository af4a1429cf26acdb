"""torch.onnx.export of timm's or transformers' model: `… MODEL.json OUT timm|transformers [--opset N] [--legacy]`.

Writes `OUT/model.onnx`, with a free batch size. --legacy: the deprecated tracer, dynamo=False.
"""

import argparse
import warnings

import torch

from benchmarks.peers import torch_models

NAMES = {"input_names": ["pixel_values"], "output_names": ["logits"]}


def main() -> None:
    """Exports with torch's defaults otherwise."""
    options = _options()
    warnings.simplefilter("ignore")
    model, images = torch_models.build(options.source, options.model)
    (batch,) = ({0: torch.export.Dim("batch")},) if not options.legacy else ({0: "batch"},)
    axes = {"dynamic_axes": {"pixel_values": batch}} if options.legacy else {"dynamic_shapes": (batch,)}
    how = {"dynamo": not options.legacy, "opset_version": options.opset, **axes, **NAMES}
    torch.onnx.export(model, (images,), f"{options.out}/model.onnx", verbose=False, **how)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("source", choices=["timm", "transformers"])
    parser.add_argument("--opset", type=int, default=20)
    parser.add_argument("--legacy", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
