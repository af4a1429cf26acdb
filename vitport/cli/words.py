"""What options take beside click's own types: lists (`a,b`), seconds, and text that says something."""

import math
from typing import Any

import click


class Seconds(click.FloatRange):
    """At least one second; `nan`, which is no number, is not more than any other."""

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        return self.fail(f"{value!r} is not a valid number of seconds.", param, ctx) if math.isnan(number) else number


def text(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Text that is not empty, as a variable that a script forgot to set would be."""
    if value is not None and not value.strip():
        raise click.BadParameter("is empty; leave the option out for what the manifest says.", context, option)
    return value


def words(context: click.Context, option: click.Parameter, value: str | None) -> tuple[str, ...]:
    """`a,b` as a tuple; empty only where the option is not given."""
    found = tuple(word.strip() for word in value.split(",")) if value is not None else ()
    if not all(found):
        what = f"{value}: has a comma too many" if any(found) else "names nothing; leave the option out for all"
        raise click.BadParameter(f"{what}.", context, option)
    return found


def numbers(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...]:
    """`8,1` as whole numbers from 1."""
    found = words(context, option, value)
    if not all(word.isdecimal() and 0 < int(word) <= 100_000 for word in found):
        raise click.BadParameter(f"{value}: must be whole numbers from 1 to 100000, as in 8,1,2", context, option)
    return tuple(map(int, found))
