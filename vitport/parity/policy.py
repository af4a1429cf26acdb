"""What a verification must keep: a list of rules, read from `policies/default.yaml`, a user's file and the manifest.

Policy is data. `read` gives the default with a file's rules after it, `with_rules` adds a manifest's, `without` excuses
runs from what they can't have; `judging.py` applies them.
"""

import hashlib
import json
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vitport import yaml_marks
from vitport.backend_table import BACKENDS
from vitport.errors import ManifestError
from vitport.manifest_errors import listing, problem
from vitport.manifest_types import Text
from vitport.parity.gate_rules import Rule

DEFAULT_FILE = Path(__file__).parent / "policies" / "default.yaml"


class PolicyFields(BaseModel):
    """A policy file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    name: Text
    """What reports call it."""
    required: Annotated[tuple[Literal[tuple(BACKENDS)], ...], Field(strict=False)] = ()
    """Backends that must have run, whatever was asked for."""
    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = ()
    """In order; the last that fits counts."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules in order, and the backends that must run."""

    name: str
    required: tuple[str, ...]
    rules: tuple[Rule, ...]

    def facts(self) -> dict[str, Any]:
        """As a report has it."""
        rules = [rule.model_dump(mode="json", exclude_none=True) for rule in self.rules]
        return {"schema": 1, "name": self.name, "required": list(self.required), "rules": rules}

    @property
    def digest(self) -> str:
        """SHA-256 of all that it says."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True).encode()).hexdigest()

    def rule(self, gate: str, today: date, **run: str) -> Rule | None:
        """The rule of a gate for such a run: the last that fits and has not expired."""
        fitting = [rule for rule in self.rules if rule.gate == gate and rule.fits(**run) and not _expired(rule, today)]
        return fitting[-1] if fitting else None

    def lapsed(self, gate: str, today: date, **run: str) -> Rule | None:
        """The rule that counted for such a run until it expired; None where it counts still."""
        last = [rule for rule in self.rules if rule.gate == gate and rule.fits(**run)][-1:]
        return next((rule for rule in last if _expired(rule, today)), None)


def read(path: Path | None = None) -> Policy:
    """The default policy, with the rules of the file at `path` after it.

    Raises ManifestError (exit 2) with every error and its line.
    """
    fields = _fields(DEFAULT_FILE)
    default = Policy(fields.name, fields.required, fields.rules)
    if path is None:
        return default
    given = _fields(path)
    return Policy(given.name, (*default.required, *given.required), (*default.rules, *given.rules))


def of_report(facts: dict[str, Any]) -> Policy:
    """The policy that a report has in it. Raises ValueError where that is none."""
    fields = PolicyFields.model_validate(facts)
    return Policy(fields.name, fields.required, fields.rules)


def with_rules(policy: Policy, name: str, rules: Sequence[Rule]) -> Policy:
    """The policy with a manifest's rules after its own."""
    return replace(policy, name=f"{policy.name} + {name}", rules=(*policy.rules, *rules)) if rules else policy


def without(policy: Policy, gates: Collection[str], why: str) -> Policy:
    """The policy for runs that can't have numbers for some gates: those are required no more, whosever rule it is.

    What was measured all the same is held to the same limits. why: what the runs go without, for the name.
    """
    rules = tuple(rule.model_copy(update={"required": False}) if rule.gate in gates else rule for rule in policy.rules)
    return replace(policy, name=f"{policy.name} without {why}", rules=rules)


def _expired(rule: Rule, today: date) -> bool:
    return rule.expires is not None and rule.expires < today


def _fields(path: Path) -> PolicyFields:
    document = yaml_marks.read(_content(path), str(path))
    try:
        return PolicyFields.model_validate(document.data)
    except ValidationError as error:
        found = error.errors(include_url=False)[: yaml_marks.MAX_ERRORS + 1]
        problems = [problem(document, details, PolicyFields) for details in found]
        raise ManifestError(listing(document, problems)) from error


def _content(path: Path) -> bytes:
    if not os.path.isfile(path):
        raise ManifestError(f"{path}: there is no such policy file")
    try:
        with path.open("rb") as file:
            return file.read(yaml_marks.MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: the policy can't be read: {error.strerror}") from error
