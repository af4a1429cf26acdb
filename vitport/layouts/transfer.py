"""The two directions of reading a layout table: canonical leaves to foreign tensors, and back."""

from collections.abc import Iterable

import numpy as np
from einops import EinopsError, rearrange

from vitport.architectures import Shapes
from vitport.arrays import Params
from vitport.errors import CheckpointError
from vitport.layouts.rows import Row


def export(rows: Iterable[Row], params: Params) -> Params:
    """The foreign tensors of canonical `params`, in the order of the rows: views, unless they are fused of several.

    Raises CheckpointError where a row's leaf is missing or a leaf has no row.
    """
    rows = list(rows)
    _require_same({row.ours for row in rows}, set(params), "the layout")
    slices: dict[str, list[np.ndarray]] = {}
    for row in rows:
        leaf = params[row.ours]
        slices.setdefault(row.theirs, []).append(rearrange(leaf, row.axes) if row.axes else leaf)
    return {name: parts[0] if len(parts) == 1 else np.concatenate(parts) for name, parts in slices.items()}


def restore(rows: Iterable[Row], tensors: Params, shapes: Shapes) -> Params:
    """The canonical leaves, of `shapes`, from foreign `tensors`: the inverse of `export`, and views too.

    Raises CheckpointError where a tensor is missing, left over, or does not have the size its row needs.
    """
    rows = list(rows)
    _require_same({row.theirs for row in rows}, set(tensors), "the file")
    return {row.ours: _restore_leaf(row, tensors[row.theirs], shapes[row.ours]) for row in rows}


def _restore_leaf(row: Row, tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    piece = _part(row, tensor)
    pattern, sizes = _inverse(row.axes, shape) if row.axes else ("", {})
    try:
        leaf = rearrange(piece, pattern, **sizes) if pattern else piece
    except EinopsError:
        leaf = None
    if leaf is None or leaf.shape != shape:
        raise CheckpointError(f"{row.theirs} has shape {tensor.shape}, which is no {row.ours} {shape}")
    return leaf


def _part(row: Row, tensor: np.ndarray) -> np.ndarray:
    """The row's slice of a fused tensor; the whole tensor where nothing is fused."""
    index, parts = row.part
    if parts == 1:
        return tensor
    if not tensor.ndim or len(tensor) % parts:
        raise CheckpointError(f"{row.theirs} has shape {tensor.shape}, which is not {parts} equal parts")
    size = len(tensor) // parts
    return tensor[index * size : (index + 1) * size]


def _inverse(axes: str, shape: tuple[int, ...]) -> tuple[str, dict[str, int]]:
    """The pattern read backwards, with the axis sizes that a merged axis hides."""
    ours, theirs = (side.strip() for side in axes.split("->"))
    return f"{theirs} -> {ours}", {axis: size for axis, size in zip(ours.split(), shape, strict=True) if axis != "1"}


def _require_same(expected: set[str], found: set[str], where: str) -> None:
    missing, extra = sorted(expected - found), sorted(found - expected)
    if missing or extra:
        lines = [f"  - {name}" for name in missing] + [f"  + {name}" for name in extra]
        raise CheckpointError("\n".join([f"the leaves do not match {where} (- missing, + unexpected):", *lines]))
