"""Reads a published checkpoint into the weights of its architecture, or says leaf by leaf why it can't.

Seven years of checkpoints name the same leaves differently. That history ends here: `normalise` renames by tables of
patterns, `check` lets nothing pass that is missing, extra, misshapen or not finite, `resize` fits the positions to the
resolution. Behind this door there is one tree, `parameter_shapes(architecture)`.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from vitport import npz
from vitport.architectures import PUBLISHED, Architecture, Shapes, parameter_shapes
from vitport.architectures.vit import POSITIONS
from vitport.arrays import Params
from vitport.errors import CheckpointError
from vitport.wording import plural

DROPPED = (r"opt/state/.*", r"extra/.*")
"""What accompanies `opt/target/`: momenta of the optimizer and bookkeeping of its loop (SAM, early big_vision)."""

_BLOCK = r"(Transformer/encoderblock_\d+)"

RENAMED: tuple[tuple[str, str], ...] = (
    (r"opt/target/(.*)", r"\1"),
    (r"params/(.*)", r"\1"),
    (_BLOCK + r"/MultiHeadDotProductAttention_0/(.*)", r"\1/MultiHeadDotProductAttention_1/\2"),
    (_BLOCK + r"/LayerNorm_1/(.*)", r"\1/LayerNorm_2/\2"),
    (_BLOCK + r"/MlpBlock_0/(.*)", r"\1/MlpBlock_3/\2"),
)
"""Whole name → canonical name, applied from top to bottom: wrappings first, then linen's numbers to the published ones
(flax.training.checkpoints.convert_pre_linen, backwards)."""

FLATTENED = (r"(.*/)?gn(\d|_root|_proj)/(scale|bias)",)
"""Leaves that flax <= 0.3.5 stored as (1, 1, 1, c) (google-research/vision_transformer#156)."""

HINTS: tuple[tuple[str, str], ...] = (
    (r"MixerBlock_\d+/.*", "this looks like an MLP-Mixer, not a Vision Transformer"),
    (r"(img|txt)/.*", "this looks like a LiT model; take its `img/` tree out into a file of its own first"),
    (r"pos_embedding", "this looks like a big_vision model, whose positions have no row for the class token"),
    (r"Transformer/encoderblock/.*", "this looks like a big_vision model with its blocks stacked in one leaf"),
    (r"(blocks\.\d+|patch_embed)\..*", "these are names of timm; the published JAX file is needed"),
    (r"(vit\.)?(encoder\.layer|layers)\.\d+\..*", "these are names of Hugging Face; the published JAX file is needed"),
    (r"(resnet/)?(root_block|block\d/unit\d\d)/.*", "this looks like a BiT ResNet without a transformer"),
)
"""Pattern of a leaf that is too many → what the file probably is."""

SHOWN = 24
"""Lines of a difference that are printed; a wrong architecture makes hundreds."""

CHUNK = 2**18
"""Elements looked at together; their booleans stay in the cache."""


def read(path: Path, architecture: Architecture, any_value: Collection[str] = ()) -> Params:
    """The weights in canonical names, float32, C-contiguous, in the order of the forward pass.

    Leaves stay read-only maps of the file unless they had to change; maps need not be aligned.
    any_value: leaves of which only name, shape and type are checked.
    Raises AssetError for a damaged file, CheckpointError where it is whole but not of this architecture.
    """
    leaves = npz.read(path)
    try:
        leaves = normalise(leaves)
        check(leaves, architecture, any_value)
        leaves[POSITIONS] = resize(leaves[POSITIONS], architecture.grid)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return {name: leaves[name] for name in parameter_shapes(architecture)}


def normalise(leaves: Mapping[str, np.ndarray]) -> Params:
    """Canonical names and ranks. Raises CheckpointError where two leaves would get one name."""
    optimizer = any(name.startswith("opt/target/") for name in leaves)
    canonical: Params = {}
    for name, leaf in leaves.items():
        if optimizer and _matches(DROPPED, name):
            continue
        target = _canonical_name(name)
        if target in canonical:
            raise CheckpointError(f"the leaf {target} is there twice, under an old and a new name")
        flat = leaf.shape[:-1] == (1, 1, 1) and _matches(FLATTENED, target)
        canonical[target] = leaf.reshape(-1) if flat else leaf
    return canonical


def check(leaves: Mapping[str, np.ndarray], architecture: Architecture, any_value: Collection[str] = ()) -> None:
    """Raises CheckpointError with a difference unless the leaves are those of the architecture, all finite.

    Lines with `-` are needed, lines with `+` are in the file. The number of positions is left to `resize`. A kernel
    that is zero everywhere is refused too: its layer was never trained, and nothing could be proven about it.
    """
    shapes = parameter_shapes(architecture)
    found = leaves.get(POSITIONS)
    if found is not None and found.ndim == 3:
        shapes[POSITIONS] = (1, found.shape[1], architecture.width)
    lines = list(_difference(leaves, shapes, any_value))
    if lines:
        hints = "".join(f"\nhint: {hint}" for hint in _hints(leaves, architecture))
        raise CheckpointError(f"these are not the weights of the architecture{_shortened(lines)}{hints}")


def resize(positions: Float[np.ndarray, "1 rows width"], grid: int) -> Float[np.ndarray, "1 tokens width"]:
    """Position embedding for grid * grid tokens: bilinear with aligned corners, the row of the class token kept.

    Equals `scipy.ndimage.zoom(order=1)` of google-research/vision_transformer `vit_jax/checkpoint.py`.
    Raises CheckpointError for a number of rows that is no square and one.
    """
    rows, width = positions.shape[1:]
    old = math.isqrt(max(rows - 1, 0))
    if rows < 2 or old**2 + 1 != rows:
        hint = " (a square: it has no row for the class token, as in GSAM)" if math.isqrt(rows) ** 2 == rows else ""
        raise CheckpointError(
            f"{POSITIONS} has {rows} rows{hint}; a square grid of tokens and a class token are needed"
        )
    if old == grid:
        return positions
    weights = _interpolation(old, grid)
    square = positions[0, 1:].astype(np.float64).reshape(old, old, width)
    resized = np.einsum("ri,sj,ijd->rsd", weights, weights, square, optimize=True)
    flat = resized.reshape(1, grid**2, width).astype(np.float32)
    return np.ascontiguousarray(np.concatenate([positions[:, :1], flat], axis=1))


def _canonical_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        if match := re.fullmatch(pattern, name):
            name = match.expand(replacement)
    return name


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    return any(re.fullmatch(pattern, name) for pattern in patterns)


def _interpolation(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Row i mixes the two old points around i * (old - 1) / (new - 1)."""
    at = np.linspace(0, old - 1, new)
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(old)))


def _difference(leaves: Mapping[str, np.ndarray], shapes: Shapes, any_value: Collection[str]) -> Iterator[str]:
    for name, shape in shapes.items():
        leaf = leaves.get(name)
        problem = "" if leaf is None else _problem(name, leaf, shape, name not in any_value)
        if problem is not None:
            yield f"- {name}  float32 {shape}"
        if problem:
            yield f"+ {name}  {problem}"
    yield from (f"+ {name}  {_described(leaf)}" for name, leaf in leaves.items() if name not in shapes)


def _problem(name: str, leaf: np.ndarray, shape: tuple[int, ...], values: bool) -> str | None:
    """What the file has instead, or None where all is well, as to its values too if they matter."""
    if leaf.shape != shape or leaf.dtype != np.dtype("<f4"):
        return _described(leaf)
    if not values:
        return None
    bad = sum(part.size - np.count_nonzero(np.isfinite(part)) for part in _parts(leaf))
    if bad:
        return f"{_described(leaf)}, of which {bad} NaN or infinite"
    if name.endswith("kernel") and all(np.abs(part).max() < np.finfo(np.float32).tiny for part in _parts(leaf)):
        return f"{_described(leaf)}, all zero or denormal"
    return None


def _described(leaf: np.ndarray) -> str:
    kind = "bfloat16 (as |V2)" if leaf.dtype == np.dtype("V2") else str(leaf.dtype)
    return f"{kind} {leaf.shape}"


def _parts(leaf: np.ndarray) -> Iterator[np.ndarray]:
    flat = leaf.reshape(-1)
    return (flat[start : start + CHUNK] for start in range(0, flat.size, CHUNK))


def _shortened(lines: list[str]) -> str:
    signs = [line[0] for line in lines]
    more = f"\n… and {len(lines) - SHOWN} more lines" if len(lines) > SHOWN else ""
    needed = signs.count("-")
    counts = f" ({needed} {plural(needed, 'leaf', 'leaves')} needed, {signs.count('+')} found instead)"
    return counts + ":\n" + "\n".join(lines[:SHOWN]) + more


def _hints(leaves: Mapping[str, np.ndarray], architecture: Architecture) -> Iterator[str]:
    """What the difference probably means."""
    yield from dict.fromkeys(text for pattern, text in HINTS if any(re.fullmatch(pattern, name) for name in leaves))
    adapted = _adapted(architecture, leaves)
    if (name := _look_alike(leaves)) and _body(adapted) != _body(_adapted(PUBLISHED[name], leaves)):
        yield f"this looks like {name}; set the architecture to that"
    elif adapted.representation_size and not architecture.representation_size:
        size = adapted.representation_size
        yield f"pre_logits is there, so this is a 2020 ImageNet-21k checkpoint; set representation_size to {size}"
    elif architecture.representation_size and "pre_logits/kernel" not in leaves:
        yield "pre_logits is not there; leave representation_size out"
    if adapted.num_classes != architecture.num_classes:
        yield f"its head has {adapted.num_classes} classes, not {architecture.num_classes}; set num_classes to that"


def _adapted(architecture: Architecture, leaves: Mapping[str, np.ndarray]) -> Architecture:
    """The architecture with the head and the pre-logits of the file."""
    classes = leaves.get("head/bias", np.empty(architecture.num_classes))
    pre_logits = leaves.get("pre_logits/bias")
    size = pre_logits.size if pre_logits is not None else None
    return replace(architecture, num_classes=classes.size, representation_size=size)


def _look_alike(leaves: Mapping[str, np.ndarray]) -> str | None:
    """The published architecture with the same leaves, whatever the head and the resolution."""
    found = {name: leaf.shape for name, leaf in leaves.items() if name != POSITIONS}
    return next((name for name, a in PUBLISHED.items() if _body(_adapted(a, leaves)) == found), None)


def _body(architecture: Architecture) -> Shapes:
    shapes = parameter_shapes(architecture)
    del shapes[POSITIONS]
    return shapes
