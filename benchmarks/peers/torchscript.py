"""torch.jit.trace of timm's or transformers' model: `… MODEL.json OUT timm|transformers` writes `OUT/model.pt`."""

import sys
import warnings

import torch

from benchmarks.peers import torch_models


def main(description: str, out: str, source: str) -> None:
    """Traces without the tracer's own check, as vitport does."""
    warnings.simplefilter("ignore")
    model, images = torch_models.build(source, description)
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(model, images, check_trace=False), f"{out}/model.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
