"""What a job's JSON says, as the child reads it, and how it tells the parent what it is doing."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vitport import checkpoint
from vitport.architectures import Architecture, ResNet
from vitport.arrays import Images, Params
from vitport.errors import AssetError

MARK = "\x1evitport "
"""Before a line of progress on standard output; everything else a framework prints there is noise."""


def say(text: str) -> None:
    """One line of progress for the parent."""
    print(f"{MARK}{text}", flush=True)


def architecture_of(fields: dict) -> Architecture:
    """An architecture from `dataclasses.asdict`, by way of JSON."""
    resnet = fields["resnet"] and ResNet(depths=tuple(fields["resnet"]["depths"]), width=fields["resnet"]["width"])
    return Architecture(**{**fields, "resnet": resnet})


def model_of(job: dict) -> tuple[Architecture, Params]:
    """The architecture and the checkpoint's leaves, memory-mapped; no leaves for a job without a checkpoint.

    Raises AssetError where the file was changed.
    """
    architecture = architecture_of(job["architecture"])
    if not job["asset"]:
        return architecture, {}
    path = Path(job["asset"])
    if identity(path) != job["identity"]:
        raise AssetError(f"{path} changed while it was being read")
    return architecture, checkpoint.read(path, architecture, job["any_value"])


def model_and_images(job: dict) -> tuple[Architecture, Params, Images]:
    """`model_of`, and the images that it is run on."""
    return *model_of(job), np.load(job["images"])


def model_arguments(
    checkpoint: Path | None, architecture: Architecture, images: Path, any_value: Sequence[str] = ()
) -> dict:
    """What `model_and_images` reads. any_value: leaves whose values don't matter. Raises AssetError."""
    return {
        "asset": str(checkpoint) if checkpoint else "",
        "identity": identity(checkpoint) if checkpoint else [],
        "architecture": asdict(architecture),
        "any_value": list(any_value),
        "images": str(images),
    }


def identity(path: Path) -> list[int]:
    """What changes when a file is replaced or written to: device, inode, size and time. Raises AssetError."""
    try:
        facts = path.stat()
    except OSError as error:
        raise AssetError(f"{path} can't be read any more: {error.strerror}") from error
    return [facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns]
