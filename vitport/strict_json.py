"""JSON that a stranger may have written: read strictly, then held to a schema, every violation with its place.

The `json` module lets the last of equal keys win, reads NaN, and fails on deep nesting with an error of its own. Of
JSON schema there is what the schema of `artifacts.json` uses; `jsonschema`, which knows the rest, takes longer to
import than a command may take that only compares hashes. Tests hold the two to the same verdicts.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from functools import reduce
from operator import getitem
from typing import Any

from vitport.fields import Path, describe, shortened

MAX_BYTES = 10_000_000
"""Of a file; a list of ten artifacts has 15,000."""

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: type(value) is int,
    "number": lambda value: type(value) in (int, float),
}
"""Name of a type in a schema to its test; `true` is no number and 1.0 no integer."""

NAMES = {"object": "a mapping", "array": "a list", "string": "text", "integer": "a whole number", "number": "a number"}

RULES: dict[str, tuple[Callable[[Any, Any], bool], str]] = {
    "const": (lambda value, rule: type(value) is type(rule) and value == rule, "must be {rule!r}, not {given}"),
    "enum": (lambda value, rule: value in rule, "must be one of {rule}, not {given}"),
    "minLength": (lambda value, rule: len(value) >= rule, "must not be empty"),
    "pattern": (lambda value, rule: bool(re.fullmatch(rule, value)), "must match {rule}; {given} does not"),
    "minimum": (lambda value, rule: value >= rule, "must be {rule} or more, not {given}"),
    "maximum": (lambda value, rule: value <= rule, "must be {rule} or less, not {given}"),
    "exclusiveMinimum": (lambda value, rule: value > rule, "must be more than {rule}, not {given}"),
    "minItems": (lambda value, rule: len(value) >= rule, "must have at least {rule} items"),
    "maxItems": (lambda value, rule: len(value) <= rule, "must have at most {rule} items"),
    "minProperties": (lambda value, rule: len(value) >= rule, "must not be empty"),
}
"""Keyword to its test of (value, rule) and the sentence for a value that fails. Patterns are of the whole text."""

NOT_RULES = {"$schema", "title", "description", "type"}
"""Keywords that say nothing about a value, or are looked at first,"""
NOT_RULES |= {"properties", "required", "additionalProperties", "propertyNames", "items"}
"""and those about what is inside it."""


def read(content: bytes, limit: int = MAX_BYTES) -> Any:
    """The data of one JSON file. Raises ValueError, with a sentence, for what is not strict JSON in UTF-8."""
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    try:
        text = content.decode("utf-8")
        data = json.loads(text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(data, ensure_ascii=False).encode("utf-8")  # half a surrogate pair has no UTF-8, and can't be shown
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeError as error:
        raise ValueError(f"it is not UTF-8 ({error.reason})") from None
    return data


def violations(schema: dict[str, Any], value: Any) -> Iterator[tuple[Path, str]]:
    """Every place where `value` is not what `schema` says, and what is wrong there."""
    return _violations(_resolved(schema, schema), value, ())


def _resolved(schema: Any, root: dict[str, Any]) -> Any:
    """`schema` with what its references, `#/…`, refer to in their place."""
    if isinstance(schema, list):
        return [_resolved(each, root) for each in schema]
    if not isinstance(schema, dict):
        return schema
    target = reduce(getitem, schema["$ref"].split("/")[1:], root) if "$ref" in schema else {}
    return {key: _resolved(value, root) for key, value in {**target, **schema}.items() if key != "$ref"}


def _violations(schema: dict[str, Any], value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    kind = schema.get("type")
    if kind and not TYPES[kind](value):
        yield path, f"must be {NAMES[kind]}, not {describe(value)}"
        return
    for keyword in sorted(schema.keys() - NOT_RULES):
        holds, sentence = RULES[keyword]
        if not holds(value, schema[keyword]):
            yield path, sentence.format(rule=schema[keyword], given=describe(value))
    if kind == "object":
        yield from _members(schema, value, path)
    if kind == "array":
        for index, item in enumerate(value):
            yield from _violations(schema["items"], item, (*path, index))


def _members(schema: dict[str, Any], value: dict[str, Any], path: Path) -> Iterator[tuple[Path, str]]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield (*path, name), "is missing"
    for name, member in value.items():
        place = (*path, shortened(name))
        yield from _violations(schema.get("propertyNames", {}), name, place)
        if name in known or others is not False:
            yield from _violations(known.get(name, others), member, place)
        else:
            yield place, "is no field of this version"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))
        raise ValueError(f"the key {shortened(twice)!r} is there twice")
    return found


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {shortened(text)} is too large")
    return number
