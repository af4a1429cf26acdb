"""JSON Schemas of pydantic models, described by the strings below their fields."""

import ast
import sys
from collections.abc import Iterator
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from typing import Any

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def describe_fields(root: Any, *modules: str) -> dict[str, Any]:
    """The schema of the model `root`, whose models are defined in `modules`, named as in `sys.modules`.

    The strings are read from the files only when a schema is written: pydantic's `use_attribute_docstrings` would do so
    at every start, for a quarter of the time that `vitport list` may take.
    """
    schema = {"$schema": DIALECT, **root.model_json_schema()}
    found = {root.__name__: schema, **schema["$defs"]}
    for module in map(sys.modules.__getitem__, modules):
        for model, field, text in _docstrings(Path(module.__file__)):
            name = getattr(module, model).model_fields[field].alias or field
            if model in found:
                found[model]["properties"][name]["description"] = text
    return schema


def _docstrings(file: Path) -> Iterator[tuple[str, str, str]]:
    """Model, field and the string below the field."""
    for model in ast.parse(file.read_text(encoding="utf-8")).body:
        if not isinstance(model, ast.ClassDef):
            continue
        for field, text in pairwise(model.body):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                yield model.name, field.target.id, cleandoc(ast.literal_eval(text.value))
