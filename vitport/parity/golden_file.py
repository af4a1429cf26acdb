"""A golden file: what a checkpoint answers to the two fixed images, in a few kilobytes that stand beside its manifest.

The images are made of integers and known by their digest, so only the oracle's outputs are kept, in float32: rounding
them moves no relative error by more than 6e-8.
"""

import base64
import json
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitport import strict_json
from vitport.architectures import VARIANTS
from vitport.arrays import Logits
from vitport.errors import AssetError
from vitport.manifest_types import Sha256

FOLDER = "golden"
"""Beside the manifests."""

ROUGHEST = 1e-3
"""Of yardsticks: good float32 is off by 1e-7 to 1e-5 of the spread, and what an artifact may be off is a multiple."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Answers(_Model):
    """The oracle's outputs of one variant."""

    columns: Annotated[int, Field(ge=1, le=1_000_000)]
    """Classes, or width of the pre-logits."""
    values: str
    """float32, little-endian, row by row, in base64."""
    yardstick: Annotated[float, Field(ge=0, le=ROUGHEST, allow_inf_nan=False)]
    """RMS error of a good float32 implementation, relative to the spread."""
    definition: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """RMS difference of the shared definition in float64, relative to the spread."""

    def array(self) -> Logits:
        """(images, columns). Raises ValueError where the text is no such array."""
        found = np.frombuffer(base64.b64decode(self.values, validate=True), "<f4").reshape(-1, self.columns)
        if not np.isfinite(found).all():
            raise ValueError("values are not finite")
        return found.astype(np.float64)


class Golden(_Model):
    """One checkpoint at one resolution."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    name: str
    """The manifest's name."""
    checkpoint: Sha256
    """SHA-256 of the checkpoint."""
    resolution: Annotated[int, Field(ge=1)]
    """Side of the images."""
    images: Sha256
    """Digest of the fixed images at that resolution."""
    variants: dict[Literal[VARIANTS], Answers]
    """By variant."""


def place(manifest: Path) -> Path:
    """Where a manifest's golden file is."""
    return manifest.parent / FOLDER / f"{manifest.stem}.json"


def encode(outputs: Logits) -> str:
    """Outputs as `Answers.values`."""
    return base64.b64encode(np.ascontiguousarray(outputs, "<f4").tobytes()).decode("ascii")


def text(golden: Golden) -> str:
    """As the file has it."""
    return json.dumps(golden.model_dump(by_alias=True), indent=1) + "\n"


def of(manifest: str, path: Path) -> Golden:
    """The golden file at `path`. Raises AssetError where it was made for another manifest than the one of this name."""
    golden = read(path)
    if golden.name != manifest:
        raise AssetError(f"{path} is of the manifest {golden.name}, not of {manifest}")
    return golden


def read(path: Path) -> Golden:
    """The golden file at `path`. Raises AssetError for anything else."""
    try:
        with path.open("rb") as file:
            golden = Golden.model_validate(strict_json.read(file.read(strict_json.MAX_BYTES + 1)))
        rows = {len(answers.array()) for answers in golden.variants.values()}
    except FileNotFoundError:
        raise AssetError(f"there is no golden file {path}; make it: vitport golden make {path.stem}") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise AssetError(f"{path} is no golden file: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (OSError, ValueError) as error:
        raise AssetError(f"{path} is no golden file: {error!s:.200}") from error
    if len(rows) != 1:
        raise AssetError(f"{path} is no golden file: its variants have {sorted(rows)} rows")
    return golden
