"""What is wrong with a manifest, in sentences that name the field, its place in the file and what it can be."""

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from vitport import yaml_marks
from vitport.fields import Path, describe, dotted
from vitport.manifest_schema import ManifestFields

Problem = tuple[Path, str]
"""Where in the document, and what is wrong there."""


_SENTENCES = {
    "missing": "this field is required",
    "int_type": "must be a whole number, not {given}",
    "float_type": "must be a number, not {given}",
    "string_type": "must be text, not {given}; quote it if it is meant",
    "bool_type": "must be true or false, not {given}",
    "tuple_type": "must be a list, not {given}",
    "model_type": "must be a mapping of fields, not {given}",
    "literal_error": "must be {expected}, not {given}",
    "either": "{sentence}, not {given}",
    "greater_than": "must be greater than {gt:g}, not {input:g}",
    "greater_than_equal": "must be {ge} or more, not {input}",
    "less_than_equal": "must be {le} or less, not {input}",
    "multiple_of": "must be a multiple of {multiple_of}, not {input}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}; {given} does not",
    "too_long": "must have at most {max_length} items, not {actual_length}",
    "value_error": "{error}",
}
"""Kind of a pydantic error to our sentence; pydantic's own for a kind that is not here."""


def listing(document: yaml_marks.Document, problems: list[Problem]) -> str:
    """Every problem on its line, `path:line:column: field: sentence`, in their order; the first of many."""
    ordered = sorted(problems, key=lambda problem: document.mark(problem[0]))
    fields = ((document.where(path), dotted(path), sentence) for path, sentence in ordered)
    lines = [f"{where}: {field}: {sentence}" if field else f"{where}: {sentence}" for where, field, sentence in fields]
    if len(lines) > yaml_marks.MAX_ERRORS:
        lines[yaml_marks.MAX_ERRORS :] = [f"{document.source}: {yaml_marks.MORE}"]
    return "\n".join(lines)


def problem(document: yaml_marks.Document, details: ErrorDetails, format: type[BaseModel] = ManifestFields) -> Problem:
    """One of pydantic's errors in our words, at its place in a document of that format."""
    path = _path(document.data, details["loc"], keep_last=details["type"] == "missing")
    given = details["input"]
    if details["type"] == "extra_forbidden":
        names = _known(path[:-1], format)
        return path, f"unknown field; {suggestion(str(path[-1]), names) or 'known: ' + ', '.join(names)}"
    template = _SENTENCES.get(details["type"], details["msg"].replace("{", "{{").replace("}", "}}"))
    sentence = template.format(**details.get("ctx", {}), given=describe(given), input=given, sentence=details["msg"])
    if details["type"] == "literal_error" and isinstance(given, str):
        allowed = [choice.strip("'") for choice in details["ctx"]["expected"].replace(" or ", ", ").split(", ")]
        sentence += "".join(f"; {hint}" for hint in [suggestion(given, allowed)] if hint)
    return path, sentence


def _path(data: Any, location: tuple[str | int, ...], keep_last: bool) -> Path:
    """`location` without the tags that pydantic adds for the branches of a union."""
    path: list[str | int] = []
    for position, part in enumerate(location):
        held = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int)
        if held:
            data = data[part]
        if held or (keep_last and position == len(location) - 1):
            path.append(part)
    return tuple(path)


def _known(path: Path, format: type[BaseModel]) -> list[str]:
    """The fields of the mapping at `path`, as they are written."""
    models: list[type[BaseModel]] = [format]
    for name in (part for part in path if isinstance(part, str)):
        fields = [model.model_fields[name] for model in models if name in model.model_fields]
        models = [nested for field in fields for nested in _models(field.annotation)]
    return [field.alias or name for model in models for name, field in model.model_fields.items()]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def suggestion(name: str, known: Iterable[str]) -> str:
    """`did you mean S_16?`, or nothing when no known name is close."""
    close = get_close_matches(name, known, n=2, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""
