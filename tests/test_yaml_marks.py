"""The strict YAML reader: every value of the core schema, every refusal at its place, and no other exception ever."""

import json
import math
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitport import fields, yaml_marks
from vitport.errors import ManifestError


def refusal(text: bytes) -> str:
    """The message, without the name of the file on each line."""
    with pytest.raises(ManifestError) as caught:
        yaml_marks.read(text, "m.yaml")
    return "\n".join(line.removeprefix("m.yaml:") for line in str(caught.value).splitlines())


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1e-3", 0.001),
        ("1.", 1.0),
        (".5", 0.5),
        ("-2.5E+1", -25.0),
        ("-.inf", -math.inf),
        ("0123", 123),
        ("+7", 7),
        ("0o17", 15),
        ("0xFf", 255),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("no", "no"),
        ("On", "On"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2001-01-01", "2001-01-01"),
        ("0b1", "0b1"),
        ("=", "="),
        ("'1'", "1"),
        ('"true"', "true"),
        ("|\n  two\n  lines", "two\nlines"),
        (">-\n  one\n  line", "one line"),
    ],
)
def test_scalars_of_the_core_schema(scalar: str, value: object) -> None:
    read = yaml_marks.read(f"key: {scalar}".encode(), "m.yaml").data["key"]
    assert (read, type(read)) == (value, type(value))


def test_not_a_number_is_one() -> None:
    assert math.isnan(yaml_marks.read(b".nan", "m.yaml").data)


def test_marks_point_at_keys_and_items() -> None:
    document = yaml_marks.read(b"\xef\xbb\xbfa: 1\nb:\n  - x\n  - {c: 2,\n     d: [3]}\n", "m.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": 2, "d": [3]}]}
    assert document.marks == {
        (): (1, 1),
        ("a",): (1, 1),
        ("b",): (2, 1),
        ("b", 0): (3, 5),
        ("b", 1): (4, 5),
        ("b", 1, "c"): (4, 6),
        ("b", 1, "d"): (5, 6),
        ("b", 1, "d", 0): (5, 10),
    }
    assert document.where(("b", 1, "d")) == "m.yaml:5:6"
    assert document.where(("b", 1, "missing", "too")) == "m.yaml:4:5", "the nearest field that exists"


def test_an_empty_file_holds_nothing() -> None:
    assert yaml_marks.read(b"# only a comment\n", "m.yaml").where(("field",)) == "m.yaml:1:1"


@pytest.mark.parametrize(
    ("path", "text"), [((), ""), (("a",), "a"), (("a", "b", 0, "c"), "a.b[0].c"), ((0, "a"), "[0].a")], ids=str
)
def test_dotted(path: fields.Path, text: str) -> None:
    assert fields.dotted(path) == text


REFUSALS = {
    "duplicate key": (b"a: 1\na: 2", "2:1: key 'a' is already on line 1"),
    "duplicate key in flow": (b"x: {a: 1, 'a': 2}", "1:11: key 'a' is already on line 1"),
    "anchor": (b"a: &x 1", "1:4: anchor &x is not allowed; write the value out where it is needed"),
    "alias": (b"a: *x", "1:4: alias *x is not allowed; write the value out"),
    "alias as key": (b"*x : 1", "1:1: alias *x is not allowed; write the value out"),
    "python tag": (
        b"a: !!python/object/apply:os.system [id]",
        "1:4: tag !!python/object/apply:os.system is not allowed; types follow from the values",
    ),
    "own tag": (b"a: !x\n  b: 1", "1:4: tag !x is not allowed; types follow from the values"),
    "non-specific tag": (b"a: ! 1", "1:4: tag ! is not allowed; types follow from the values"),
    "second document": (b"a: 1\n---\nb: 2", "2:1: a second document starts here; a file holds one"),
    "YAML directive": (b"%YAML 1.1\n---\na: 1", "1:1: directives (%YAML, %TAG) are not allowed; delete the line"),
    "tab as indent": (b"a:\n\tb: 1", "2:1: a tab; use spaces"),
    "tab after a colon": (b"a:\t1", "1:3: a tab; use spaces"),
    "NUL": (b"a: 1\nb: \0", "2:4: character U+0000 is not allowed; delete it"),
    "NUL as escape": (b'a: "\\0"', "1:4: character U+0000 is not allowed; delete it (it is written as an escape)"),
    "surrogate as escape": (
        b'a: "\\ud800"',
        "1:4: character U+D800 is not allowed; delete it (it is written as an escape)",
    ),
    "line separator": ("a: \u2028".encode(), "1:4: character U+2028 is not allowed; delete it"),
    "second byte order mark": (b"a: \xef\xbb\xbf", "1:4: character U+FEFF is not allowed; delete it"),
    "latin-1": (b"a: 1\nb: caf\xe9", "2:7: byte 0xe9 is not UTF-8; save the file as UTF-8"),
    "UTF-16": ("a: 1".encode("utf-16"), "1:1: byte 0xff is not UTF-8; save the file as UTF-8"),
    "number as key": (b"1: x", "1:1: a key must be text, not the number 1; quote it if it is meant"),
    "null as key": (b"~: x", "1:1: a key must be text, not nothing; quote it if it is meant"),
    "list as key": (b"? [a]\n: x", "1:3: a key must be text, not a list; quote it if it is meant"),
    "boolean as key": (b"true: x", "1:1: a key must be text, not true; quote it if it is meant"),
    "long number": (b"a: " + b"9" * 5000, "1:4: a number of 5000 digits is too long"),
    "long hexadecimal number": (b"a: 0x" + b"f" * 5000, "1:4: a number of 5002 digits is too long"),
    "long fraction": (b"a: 0." + b"1" * 99, "1:4: a number of 101 digits is too long"),
    "long tag": (
        b"!" + b"x" * 5000 + b" a",
        f"1:1: tag !{'x' * 29}…{'x' * 30} is not allowed; types follow from the values",
    ),
    "long anchor": (
        b"&" + b"x" * 5000 + b" a",
        f"1:1: anchor &{'x' * 30}…{'x' * 30} is not allowed; write the value out where it is needed",
    ),
    "many values": (
        b"[" + b"1," * 50_000 + b"]",
        "1:100000: there are more than 50,000 values; this can't be a manifest",
    ),
    "deep flow": (b"[" * 21, "1:21: nested deeper than 20 levels"),
    "deep blocks": (b"- " * 30 + b"x", "1:41: nested deeper than 20 levels"),
    "large": (b"#" * 1_000_001, "1:1: the file is larger than 1,000,000 bytes; this can't be a manifest"),
    "open list": (b"a: [1", "1:6: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    "two colons": (b"a: b: c", "1:5: mapping values are not allowed here"),
    "escape beyond Unicode": (b'a: 1\nb: "\\U00110000"', "2:1: what follows is not YAML"),
}


@pytest.mark.parametrize(("text", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals(text: bytes, message: str) -> None:
    assert refusal(text) == message


def test_all_faults_at_once_in_the_order_of_the_file() -> None:
    assert refusal(b"a: &x 1\nb: *x\na: !y 2\n").splitlines() == [
        "1:4: anchor &x is not allowed; write the value out where it is needed",
        "2:4: alias *x is not allowed; write the value out",
        "3:1: key 'a' is already on line 1",
        "3:4: tag !y is not allowed; types follow from the values",
    ]


def test_many_faults_are_cut_short() -> None:
    lines = refusal(b"a: 1\n" * 100).splitlines()
    assert len(lines) == yaml_marks.MAX_ERRORS + 1
    assert lines[-1] == " and more faults like these"


def test_an_alias_bomb_is_refused_where_it_starts() -> None:
    bomb = b"a: &a [x,x]\n" + b"".join(b"%c: &%c [*%c,*%c]\n" % (c, c, c - 1, c - 1) for c in b"bcdefghij")
    assert refusal(bomb).startswith("1:4: anchor &a is not allowed")


PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E) | st.sampled_from("äß€漢😀"), max_size=12)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | PRINTABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(PRINTABLE, inner, max_size=4),
    max_leaves=12,
)


@given(PLAIN)
@settings(max_examples=150, deadline=None)
def test_json_is_read_as_json(data: object) -> None:
    document = yaml_marks.read(json.dumps(data, ensure_ascii=False).encode(), "m.yaml")
    assert document.data == data
    assert all(line == 1 for line, _ in document.marks.values())


@given(st.binary(max_size=60) | st.text("ab:-?[]{}&*!|>'\"%@# \n\\0x9", max_size=40).map(str.encode))
@settings(max_examples=300, deadline=None)
def test_whatever_the_bytes_only_a_manifest_error_comes_out(text: bytes) -> None:
    with suppress(ManifestError):
        assert isinstance(yaml_marks.read(text, "m.yaml"), yaml_marks.Document)
