"""One row of a layout table."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One canonical leaf and its slot elsewhere.

    ours: canonical name. theirs: foreign name. axes: einops pattern from ours to theirs, empty where they agree.
    part: (index, parts) where the leaf is one equal slice of a fused foreign tensor along its first axis.
    """

    ours: str
    theirs: str
    axes: str = ""
    part: tuple[int, int] = (0, 1)
