"""Weight layouts: the same weights under other projects' names and axes, as tables read in both directions.

A row (`rows.py`) pairs one canonical (AugReg) leaf with its slot in the other layout; an einops pattern turns the axes.
The same rows export and restore (`transfer.py`), every leaf is consumed exactly once, and anything else is an error
that prints the difference. The tables themselves need no arrays: a manifest is read without NumPy.
"""
