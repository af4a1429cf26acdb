"""Writes a first manifest from a checkpoint's name alone: complete and valid, what a person must check in comments."""

import json
import os
import re
from contextlib import suppress
from pathlib import Path

from vitport import names
from vitport.architectures import Architecture
from vitport.errors import OutputError, UsageError
from vitport.manifest import applicable_formats
from vitport.names import CheckpointName

DATASETS = {
    "i21k": "ImageNet-21k",
    "i1k": "ImageNet-1k",
    "imagenet2012": "ImageNet-1k",
    "cifar100": "CIFAR-100",
    "kitti": "KITTI",
    "oxford_iiit_pet": "Oxford-IIIT Pet",
    "resisc45": "RESISC45",
}
"""Data sets of file names, as people write them."""

TEMPLATE = """\
# yaml-language-server: $schema=../vitport/schemas/manifest.schema.json
# Written from the name of the checkpoint alone. Look at the lines marked CHECK, then delete this one.

schema: 1
name: {name}
title: {title}

asset:
  url: {url}
  mirrors:
    - {mirror}
  # CHECK: add `sha256` and `bytes` once you hold a file that you trust; without them the first one is recorded.

{architecture}
resolution: {resolution}
num_classes: {num_classes}
{labels}

preprocessing: {{resize: bilinear, crop: none, antialias: false, range: [-1, 1]}}
variants: [classifier, features]
formats: [{formats}]
license: Apache-2.0  # CHECK: the licence of google-research/vision_transformer, which published the file
gates: {{float32_ratio: 3}}

# CHECK: what others have published about this file, so that a report can be compared with it.
# published:
#   top1: {{value: 0.0, source: {source}, pipeline: vit_jax}}
"""


def render(name_or_url: str) -> tuple[str, str]:
    """File name and YAML text of a manifest for the published checkpoint of that name or address.

    Raises UsageError if the name is none (see `names.parse`).
    """
    checkpoint = names.parse(name_or_url)
    name = manifest_name(checkpoint)
    text = TEMPLATE.format(
        name=name,
        title=title(checkpoint),
        url=checkpoint.url,
        mirror=checkpoint.mirror,
        architecture=_architecture(checkpoint),
        resolution=checkpoint.resolution,
        num_classes=checkpoint.num_classes,
        labels=_labels(checkpoint),
        formats=", ".join(applicable_formats(checkpoint.architecture)),
        source="adapt_final_test in index.csv" if checkpoint.recipe else "README of vision_transformer",
    )
    return f"{name}.yaml", text


def write(name_or_url: str, folder: Path) -> Path:
    """Writes `render` into `folder`, whole or not at all, and never over a file that exists.

    Raises UsageError for a name that is none or a manifest that exists, OutputError if the folder can't be written.
    """
    file_name, text = render(name_or_url)
    path = folder / file_name
    partial = folder / f".{file_name}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.link(partial, path)  # unlike a rename, this refuses to replace
    except FileExistsError:
        blocked = path if folder.is_dir() else folder
        raise UsageError(f"{blocked} exists already; move it away, or write to another folder") from None
    except OSError as error:
        raise OutputError(f"{path} can't be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()
    return path


def manifest_name(checkpoint: CheckpointName) -> str:
    """`b16_i21k_medium1_imagenet2012_384`; `vit_b16_imagenet21k_224` for the collections of 2020."""
    architecture = re.sub(r"_(\d+)$", r"\1", checkpoint.architecture_name).lower()
    head = checkpoint.finetuned_on
    if checkpoint.recipe is None:
        return f"vit_{architecture}_{head or checkpoint.collection}_{checkpoint.resolution}"
    parts = (architecture, checkpoint.dataset, checkpoint.recipe.augmentation, head, checkpoint.resolution)
    return "_".join(str(part) for part in parts if part)


def title(checkpoint: CheckpointName) -> str:
    """`ViT-B/16, AugReg medium1, ImageNet-21k, fine-tuned on ImageNet-1k at 384`."""
    *stem, size, patch = checkpoint.architecture_name.split("_")
    parts = ["+".join([*stem, f"ViT-{size}/{patch}"])]
    parts.append(f"AugReg {checkpoint.recipe.augmentation}" if checkpoint.recipe else "2020")
    parts.append(DATASETS[checkpoint.dataset])
    if checkpoint.finetuned_on:
        parts.append(f"fine-tuned on {DATASETS[checkpoint.finetuned_on]} at {checkpoint.resolution}")
    return ", ".join(parts)


def _labels(checkpoint: CheckpointName) -> str:
    head = checkpoint.finetuned_on or checkpoint.dataset
    if head in ("imagenet2012", "i1k"):
        return "labels: imagenet2012"
    return f"# CHECK: add `labels`, the names of the {checkpoint.num_classes} classes of {DATASETS[head]}"


def _architecture(checkpoint: CheckpointName) -> str:
    architecture = checkpoint.architecture
    if architecture.representation_size is None:
        return f"architecture: {checkpoint.architecture_name}"
    return f"# {checkpoint.architecture_name} with a pre_logits layer\narchitecture:\n{_numbers(architecture)}"


def _numbers(architecture: Architecture) -> str:
    names = ("patch", "width", "depth", "heads", "mlp_width", "representation_size")
    lines = [f"  {name}: {getattr(architecture, name)}" for name in names]
    if architecture.resnet:
        stem = architecture.resnet
        lines.append(f"  resnet: {{depths: {json.dumps(stem.depths)}, width: {stem.width}}}")
    return "\n".join(lines)
