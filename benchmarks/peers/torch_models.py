"""The same weights in timm's and in transformers' model, with the tanh GELU that they were trained with."""

import json
from pathlib import Path

import torch
from torch import nn

from benchmarks.peers import torchvision_shim


def build(source: str, description: str) -> tuple[nn.Module, torch.Tensor]:
    """(model, images) of `timm`, which reads the npz, or of `transformers`, which reads its own folder."""
    model = json.loads(Path(description).read_text())
    torchvision_shim.install()
    side = model["architecture"]["resolution"]
    return {"timm": _timm, "transformers": _transformers}[source](model).eval(), torch.zeros(2, 3, side, side)


def _timm(model: dict) -> nn.Module:
    import timm

    a = model["architecture"]
    return timm.create_model(
        "vit_base_patch16_224",
        checkpoint_path=model["checkpoint"],
        img_size=a["resolution"],
        patch_size=a["patch"],
        embed_dim=a["width"],
        depth=a["depth"],
        num_heads=a["heads"],
        mlp_ratio=a["mlp_width"] / a["width"],
        num_classes=a["num_classes"],
        act_layer="gelu_tanh",
    )


def _transformers(model: dict) -> nn.Module:
    from transformers import ViTForImageClassification

    return Logits(ViTForImageClassification.from_pretrained(model["transformers"]))


class Logits(nn.Module):
    """A model of transformers that returns a tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values).logits
