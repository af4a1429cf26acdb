"""A strict YAML reader for files that people write and strangers send: plain data, and the place of every field.

Requirements that shaped it:
- numbers and words are those of the YAML 1.2 core schema: `1e-3` is a number, `no` is text, `0123` is 123,
  `1:30` is text (PyYAML's own resolver is YAML 1.1 and gets all four otherwise);
- nothing is lost silently: equal keys, aliases, tags and second documents are refused, each with its place;
- reading costs little whatever the file says: 1 MB, 20 levels and 50,000 values at most, checked while the events
  arrive, and messages that a person can read.

PyYAML only scans and parses; the data is built here, from its events.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from vitport.errors import ManifestError
from vitport.fields import Path, describe, shortened

MAX_BYTES, MAX_DEPTH, MAX_ERRORS = 1_000_000, 20, 20

MORE = "and more faults like these"
"""Instead of those beyond MAX_ERRORS."""

MAX_VALUES = 50_000
"""Keys, items and scalars; the labels of ImageNet-21k are 21,843."""

MAX_DIGITS = 100
"""Of a number; Python prints no longer ones than 4300, and reads hexadecimal ones of any length."""

_NOT_TEXT = re.compile("[^\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""What YAML forbids (c-printable, YAML 1.2.2 section 5.1), tabs, stray BOMs, and line breaks that no editor counts."""

_CORE = (
    (re.compile(r"null|Null|NULL|~|"), lambda text: None),
    (re.compile(r"true|True|TRUE"), lambda text: True),
    (re.compile(r"false|False|FALSE"), lambda text: False),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda text: int(text, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda text: int(text, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)"), lambda text: float(text.replace(".", ""))),
    (re.compile(r"\.(nan|NaN|NAN)"), lambda text: float("nan")),
)
"""Plain scalars of the core schema, YAML 1.2.2 section 10.3.2; anything else is text."""


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data of one YAML file, with the (line, column) of every field, both counted from 1.

    A field of a mapping is where its key is, an item of a list where it begins.
    """

    source: str
    data: Any
    marks: dict[Path, tuple[int, int]]

    def mark(self, path: Path) -> tuple[int, int]:
        """Where `path` is, or the nearest field around it that exists."""
        while path not in self.marks and path:
            path = path[:-1]
        return self.marks.get(path, (1, 1))

    def where(self, path: Path) -> str:
        """`source:line:column` of `path`, as editors and terminals link it."""
        line, column = self.mark(path)
        return f"{self.source}:{line}:{column}"


def read(text: bytes, source: str) -> Document:
    """The only document of a UTF-8 YAML file; a byte order mark at its start is skipped.

    source: what to call the file in messages. Raises ManifestError with every fault as `source:line:column: sentence`.
    """
    decoded = _decode(text, source)
    builder = _Builder()
    try:
        data = builder.document(yaml.parse(decoded, Loader=yaml.SafeLoader))
    except _Stop:
        data = None
    except yaml.MarkedYAMLError as error:
        data = builder.errors.append((*_place(error.problem_mark or error.context_mark), _syntax(error)))
    except (yaml.YAMLError, ValueError, OverflowError):  # escapes beyond Unicode, versions of 5000 digits
        data = builder.errors.append((*max(builder.marks.values(), default=(1, 1)), "what follows is not YAML"))
    _refuse(builder.errors, source)
    return Document(source, data, builder.marks)


class _Stop(Exception):
    """The file is faulty in a way, or so often, that makes reading on pointless; the faults are already noted."""


@dataclass
class _Builder:
    """Turns the events of one file into data, and notes places and faults on the way."""

    marks: dict[Path, tuple[int, int]] = field(default_factory=dict)
    errors: list[tuple[int, int, str]] = field(default_factory=list)
    values: int = 0

    def document(self, events: Iterator[yaml.Event]) -> Any:
        next(events)  # the stream starts
        start = next(events)
        if isinstance(start, yaml.StreamEndEvent):
            return None
        if start.version or start.tags:
            self.fault(start, "directives (%YAML, %TAG) are not allowed; delete the line")
        root = next(events)
        self.marks[()] = _place(root.start_mark)
        data = self.value(root, events, ())
        next(events)  # the document ends
        more = next(events)
        if isinstance(more, yaml.DocumentStartEvent):
            self.fault(more, "a second document starts here; a file holds one")
        return data

    def value(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> Any:
        self.values += 1
        if self.values > MAX_VALUES:
            self.fault(event, f"there are more than {MAX_VALUES:,} values; this can't be a manifest")
            raise _Stop
        if isinstance(event, yaml.AliasEvent):
            return self.fault(event, f"alias *{shortened(event.anchor)} is not allowed; write the value out")
        if event.anchor is not None:
            self.fault(
                event, f"anchor &{shortened(event.anchor)} is not allowed; write the value out where it is needed"
            )
        if event.tag is not None:
            tag = shortened(event.tag.replace("tag:yaml.org,2002:", "!!"))
            self.fault(event, f"tag {tag} is not allowed; types follow from the values")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if len(path) >= MAX_DEPTH:
            self.fault(event, f"nested deeper than {MAX_DEPTH} levels")
            raise _Stop
        return (self.mapping if isinstance(event, yaml.MappingStartEvent) else self.sequence)(events, path)

    def mapping(self, events: Iterator[yaml.Event], path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.key(event, events, path)
            if key in data:
                line, _ = self.marks[(*path, key)]
                self.fault(event, f"key {shortened(key)!r} is already on line {line}")
                self.value(next(events), events, (*path, key))
                continue
            self.marks[(*path, key)] = _place(event.start_mark)
            data[key] = self.value(next(events), events, (*path, key))
        return data

    def key(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> str:
        key = self.value(event, events, (*path, "?"))
        if not isinstance(key, str) and not isinstance(event, yaml.AliasEvent):
            self.fault(event, f"a key must be text, not {describe(key)}; quote it if it is meant")
        return key if isinstance(key, str) else f"?{len(self.errors)}"

    def sequence(self, events: Iterator[yaml.Event], path: Path) -> list[Any]:
        data: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            self.marks[(*path, len(data))] = _place(event.start_mark)
            data.append(self.value(event, events, (*path, len(data))))
        return data

    def scalar(self, event: yaml.ScalarEvent) -> Any:
        if found := _NOT_TEXT.search(event.value):
            self.fault(event, f"{_character(found[0])} (it is written as an escape)")
        if event.style is not None:
            return event.value
        for pattern, construct in _CORE:
            if pattern.fullmatch(event.value):
                if len(event.value) > MAX_DIGITS:
                    return self.fault(event, f"a number of {len(event.value)} digits is too long")
                return construct(event.value)
        return event.value

    def fault(self, event: yaml.Event, sentence: str) -> None:
        self.errors.append((*_place(event.start_mark), sentence))
        if len(self.errors) > MAX_ERRORS:
            raise _Stop


def _decode(text: bytes, source: str) -> str:
    if len(text) > MAX_BYTES:
        raise ManifestError(f"{source}:1:1: the file is larger than {MAX_BYTES:,} bytes; this can't be a manifest")
    try:
        decoded = text.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        before = text[: error.start].removeprefix(b"\xef\xbb\xbf").decode("utf-8")
        sentence = f"byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ManifestError(f"{source}:{_position(before)}: {sentence}") from None
    forbidden = [(*_counted(decoded[: m.start()]), _character(m[0])) for m, _ in _few(_NOT_TEXT.finditer(decoded))]
    _refuse(forbidden, source)
    return decoded


def _few(matches: Iterator[re.Match[str]]) -> Iterator[tuple[re.Match[str], int]]:
    return zip(matches, range(MAX_ERRORS + 1), strict=False)


def _character(character: str) -> str:
    if character == "\t":
        return "a tab; use spaces"
    return f"character U+{ord(character):04X} is not allowed; delete it"


def _counted(before: str) -> tuple[int, int]:
    lines = re.split("\r\n|\r|\n", before)
    return len(lines), len(lines[-1]) + 1


def _position(before: str) -> str:
    return "{}:{}".format(*_counted(before))


def _place(mark: yaml.Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _syntax(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(shortened(part, 200) for part in (error.context, error.problem) if part) or "this is not YAML"


def _refuse(errors: list[tuple[int, int, str]], source: str) -> None:
    if not errors:
        return
    lines = [f"{source}:{line}:{column}: {sentence}" for line, column, sentence in sorted(errors)]
    if len(lines) > MAX_ERRORS:
        lines[MAX_ERRORS:] = [f"{source}: {MORE}"]
    raise ManifestError("\n".join(lines))
