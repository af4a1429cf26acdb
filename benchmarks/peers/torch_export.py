"""torch.export of timm's or transformers' model: `… MODEL.json OUT timm|transformers` writes `OUT/model.pt2`."""

import sys
import warnings

import torch

from benchmarks.peers import torch_models


def main(description: str, out: str, source: str) -> None:
    """With a free batch size."""
    warnings.simplefilter("ignore")
    model, images = torch_models.build(source, description)
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(model, (images,), dynamic_shapes=shapes), f"{out}/model.pt2")


if __name__ == "__main__":
    main(*sys.argv[1:])
