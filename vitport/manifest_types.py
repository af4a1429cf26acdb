"""The types of a manifest's single values: text, names, days, addresses, hashes, and lists without repetition.

A value that does not fit raises ValueError with the sentence that the user reads.
"""

import re
from collections import Counter
from datetime import date
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from vitport.wording import plural

Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]
Spdx = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$", max_length=100)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


_HOSTS = {"gs": "bucket", "https": "host", "hf": "owner"}
"""Schemes of an address, and what their first part is called."""


def _address(text: str) -> str:
    """An asset's place, refused when it is not https, a bucket, a hub or a path."""
    scheme, separator, rest = text.rpartition("://")
    if not separator:
        scheme, rest = "", text
    if scheme and scheme not in _HOSTS:
        raise ValueError(f"{scheme}:// is not supported; use gs://, https://, hf:// or a path relative to the manifest")
    if not re.fullmatch(r"[^\s\x00-\x1f\x7f]+" if scheme else r"[^\x00-\x1f\x7f]+", rest):
        raise ValueError("an address has no spaces or control characters")
    if scheme and not re.fullmatch(r"[^/@?#]+/[^/].*", rest):
        raise ValueError(f"{scheme}:// needs a {_HOSTS[scheme]}, a slash and a path, and no user name")
    return text


def _sha256(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"a SHA-256 is 64 hexadecimal digits in lower case; this has {len(text)} characters")
    return text


def _day(value: object) -> date:
    """A date, or ISO 8601's text of one; pydantic would take 20271231 for seconds since 1970."""
    if isinstance(value, date):
        return value
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        raise ValueError("must be a date, as in 2027-12-31")
    return date.fromisoformat(value)


def _said(text: str) -> str:
    if not text.strip():
        raise ValueError("must say why; blanks say nothing")
    return text


def _some_once(items: tuple[str, ...]) -> tuple[str, ...]:
    if not items:
        raise ValueError("must not be empty; leave the field out for the default")
    repeated = sorted(item for item, count in Counter(items).items() if count > 1)
    if repeated:
        shown = " and ".join([*repeated[:3], *(["others"] if len(repeated) > 3 else [])])
        raise ValueError(f"{shown} {plural(len(repeated), 'stands', 'stand')} here more than once")
    return items


LIST = (Field(strict=False, json_schema_extra={"minItems": 1, "uniqueItems": True}), AfterValidator(_some_once))
"""What makes a tuple field a list of at least one item, none twice (a strict tuple would refuse YAML's lists)."""

Reason = Annotated[Text, AfterValidator(_said)]
Day = Annotated[date, BeforeValidator(_day)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=2000), AfterValidator(_address)]
Sha256 = Annotated[str, AfterValidator(_sha256), Field(json_schema_extra={"pattern": "^[0-9a-f]{64}$"})]
