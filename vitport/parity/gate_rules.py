"""One rule of a policy: which runs it is for, what it allows them, and why."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from vitport.architectures import VARIANTS
from vitport.backend_table import BACKENDS, PRECISIONS
from vitport.devices import DEVICES
from vitport.manifest_types import Day, Reason

GATES = {
    "definition": "RMS difference of the shared definition from the oracle, both in float64, relative to the spread",
    "nonfinite": "outputs that are NaN or infinite",
    "weights": "leaves of which a bit differs from the checkpoint's",
    "labels": "classes that have another name than in the manifest",
    "preprocessing": "settings of what clients make of a picture that are not the published evaluation's",
    "semantic": "RMS difference from the oracle in float64, relative to the spread",
    "numeric": "RMS error to the oracle, relative to the spread",
    "flips": "images whose best output is another without their error explaining it",
    "repeat": "largest difference of a second run, or of another way to call the artifact, relative to the spread",
    "batches": "largest difference in batches of another size, relative to the spread",
    "gradients": "RMS error of the worst part's gradient, relative to its own RMS",
    "semantic_gradients": "RMS difference of the worst part's gradient in float64, relative to its own RMS",
}
"""Name of each condition to what it measures. The oracle's spread is the scale of whatever is relative to it."""

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


Item = TypeVar("Item")

Some = Annotated[tuple[Item, ...], Field(strict=False, min_length=1)]
"""A list; an empty one would fit nothing, and its rule be none."""

PORT, REFERENCES = "port", "references"
"""Names beside the backends' own: of every published port, and where a gate is about the oracle and the definition."""

PORT_PREFIX = f"{PORT}:"
"""Before the name of a published port, in the name of a run."""


class Rule(BaseModel):
    """What one gate allows, to all runs or to some. Of the rules that fit a run the last one counts."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    gate: Literal[tuple(GATES)]
    """The condition."""
    limit: Limit
    """The most that passes. Of numeric and gradients it is a multiple of the reference's error, of repeat and batches a
    multiple of what numeric allows; of the others the number itself."""
    floor: Limit = 0.0
    """Of numeric and gradients: relative errors up to this pass whatever the reference achieves."""
    required: bool = True
    """Whether a run that has no number for this gate is NOT RUN; otherwise the gate alone is."""
    backend: Some[Literal[(*BACKENDS, PORT, REFERENCES)]] | None = None
    """Only these backends; `port` is every published port, `references` the oracle and the definition."""
    precision: Some[Literal[PRECISIONS]] | None = None
    """Only these precisions."""
    device: Some[Literal[DEVICES]] | None = None
    """Only these devices."""
    variant: Some[Literal[VARIANTS]] | None = None
    """Only these variants."""
    stem: Literal["plain", "hybrid"] | None = None
    """Only architectures without, or with, a convolutional stem."""
    because: Reason
    """Where the number comes from."""
    expires: Day | None = None
    """The last day on which the rule counts; a manifest's rules must have one."""

    def fits(self, backend: str, precision: str, device: str, variant: str, stem: str) -> bool:
        """Whether this rule is for such a run."""
        kind = PORT if backend.startswith(PORT_PREFIX) else backend
        asked = ((self.backend, kind), (self.precision, precision), (self.device, device), (self.variant, variant))
        return all(allowed is None or value in allowed for allowed, value in asked) and self.stem in (None, stem)
