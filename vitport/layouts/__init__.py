"""Weight layouts: the same weights under other projects' names and axes, as tables read in both directions.

A row pairs one canonical (AugReg) leaf with its slot in the other layout; an einops pattern turns the axes. The same
rows export and restore, every leaf is consumed exactly once, and anything else is an error that prints the difference.
"""

from vitport.layouts.rows import Row, export, restore

__all__ = ["Row", "export", "restore"]
