"""The manifest as it is written: every field, its type and its meaning.

`docs/manifest.md` says it for people, `schemas/manifest.schema.json` for editors; the latter is made from this file.
Each model checks its own fields. What needs two fields of different models, or the file's place, is `manifest.py`'s.
"""

from datetime import date
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from vitport.architectures import PUBLISHED, VARIANTS, Architecture, ResNet
from vitport.backend_table import BACKENDS
from vitport.errors import UsageError
from vitport.format_table import FORMATS
from vitport.gates import FLOOR, RATIO
from vitport.manifest_types import LIST, Address, Count, Day, Identifier, Name, Reason, Sha256, Spdx, Text
from vitport.opsets import DEFAULT, OPSETS
from vitport.parity.gate_rules import PORT, Rule
from vitport.schema_text import describe_fields

IMAGENET = "imagenet2012"

RATED = (*(name for name in BACKENDS if name != "flax"), PORT)
"""Whose error `float32_ratio` limits: Flax in float32 is no artifact, and has a rule of its own."""

LARGEST_RESOLUTION = 4096
"""Pixels; attention over the 65,537 tokens that a patch of 16 makes of it fills 17 GB a head in float32."""


class _Model(BaseModel):
    """Frozen, exact about types, and closed: a key that is not a field is an error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class AssetFields(_Model):
    """The checkpoint file: where it is, and how to know that it is the one meant."""

    url: Address
    """gs://bucket/path, https://host/path, hf://owner/repository/path, or a path relative to the manifest."""
    mirrors: Annotated[tuple[Address, ...], Field(strict=False)] = ()
    """Other places of the same file, tried in this order after `url`."""
    sha256: Sha256 | None = None
    """SHA-256 of the file. Without it the first download is trusted, and remembered."""
    bytes: Annotated[int, Field(ge=1)] | None = None
    """Exact size of the file."""


class ResNetFields(_Model):
    """The convolutional stem of a hybrid."""

    depths: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(strict=False, max_length=6)]
    """Units in each stage; empty for a stem of root convolution and max pool alone."""
    width: Annotated[int, Field(ge=32, le=4096, multiple_of=32)] = 64
    """Channels of the root convolution: a multiple of the 32 groups of every GroupNorm."""


class ArchitectureFields(_Model):
    """An architecture that nobody published under a name, by its numbers."""

    patch: Annotated[int, Field(ge=1, le=1024)]
    """Side of a patch, in pixels of the image, or of the stem's output for a hybrid."""
    width: Annotated[int, Field(ge=1, le=65536)]
    """Channels of a token."""
    depth: Annotated[int, Field(ge=1, le=1000)]
    """Encoder blocks."""
    heads: Annotated[int, Field(ge=1, le=1024)]
    """Attention heads; a divisor of `width`."""
    mlp_width: Annotated[int, Field(ge=1, le=1_000_000)]
    """Channels between the two dense layers of a block."""
    resnet: ResNetFields | None = None
    """The stem of a hybrid; absent for a plain Vision Transformer."""
    representation_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Width of the `pre_logits` layer (dense and tanh) of the 2020 ImageNet-21k checkpoints; absent in all others."""

    @model_validator(mode="after")
    def _is_possible(self) -> "ArchitectureFields":
        stride = self.patch * (ResNet(**self.resnet.model_dump()).stride if self.resnet else 1)
        try:
            self.build(resolution=stride)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return self

    def build(self, **changes: int) -> Architecture:
        """The architecture of these numbers. Raises UsageError for a resolution that its patches do not tile."""
        resnet = ResNet(**self.resnet.model_dump()) if self.resnet else None
        return Architecture(**self.model_dump(exclude={"resnet"}), resnet=resnet, **changes)


class PreprocessingFields(_Model):
    """How a picture becomes the input. The default is the published evaluation (vit_jax `input_pipeline.py`)."""

    resize: Literal["bilinear"] = "bilinear"
    """Interpolation."""
    crop: Literal["none"] = "none"
    """none: the whole picture is squashed to the square input."""
    antialias: Literal[False] = False
    """Whether the resize filters before it shrinks; tf.image.resize does not by default."""
    range: Annotated[tuple[float, float], Field(strict=False)] = (-1.0, 1.0)
    """Values that black and white become: -1 and 1, on which all the published weights were trained."""

    @field_validator("range")
    @classmethod
    def _is_published(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value != (-1.0, 1.0):
            raise ValueError("must be [-1, 1], on which the weights were trained")
        return value


class SavedModelFields(_Model):
    """Options of the TensorFlow SavedModel."""

    output: Identifier | None = None
    """Name of the classifier's output in `serving_default`, `logits` if absent; that of features is `pre_logits`."""
    compat: Literal["tfhub"] | None = None
    """tfhub: the output of both variants is called `output_0`, as in the models on TensorFlow Hub."""

    @model_validator(mode="after")
    def _one_name(self) -> "SavedModelFields":
        if self.output and self.compat:
            raise ValueError("`compat: tfhub` already names the output (output_0); keep one of the two")
        return self

    @property
    def name(self) -> str:
        """The classifier's output; `output_0` is that of both variants."""
        return self.output or ("output_0" if self.compat else "logits")


class OnnxFields(_Model):
    """Options of the ONNX model."""

    opset: Annotated[int, Field(ge=OPSETS.start, le=OPSETS.stop - 1)] = DEFAULT
    """Version of the operator set. 17 is the first with LayerNormalization, 20 the first with Gelu."""


class Top1Fields(_Model):
    """A published accuracy, with what it takes to compare it."""

    value: Annotated[float, Field(ge=0, le=100)]
    """Per cent of the ImageNet validation set, 50,000 pictures."""
    source: Text
    """Where the number was published."""
    pipeline: Text
    """The evaluation behind it: program, resize, crop. Two pipelines give the same weights scores 1.3 points apart."""


class PortFields(_Model):
    """A published port that goes by the same model's name."""

    where: Literal["tfhub", "timm", "huggingface"]
    """The collection it is published in."""
    id: Text
    """Its name there: a TensorFlow Hub handle, a timm model, a Hugging Face repository."""
    path: Text | None = None
    """Where it lies, relative to the manifest: then `vitport verify` judges it beside the artifacts."""
    variant: Literal[VARIANTS]
    """classifier (logits) or features (pre-logits)."""
    same_weights: bool
    """Whether it was made of this very file. If not, its numbers can't be compared."""
    top1: Annotated[float, Field(ge=0, le=100)] | None = None
    """The accuracy that is published for the port, in per cent."""
    note: Text | None = None
    """What to know before comparing."""


class CorrectionFields(_Model):
    """A place where the public record is wrong."""

    claim: Text
    """What is published."""
    fact: Text
    """What is so."""
    source: Text
    """How one can see it."""


class PublishedFields(_Model):
    """What others have published about this checkpoint."""

    top1: Top1Fields | None = None
    """The accuracy published with the checkpoint."""
    ports: Annotated[tuple[PortFields, ...], Field(strict=False)] = ()
    """Published ports of the same model."""
    corrections: Annotated[tuple[CorrectionFields, ...], Field(strict=False)] = ()
    """Where the public record is wrong."""


class GatesFields(_Model):
    """Limits of the parity gates, where this checkpoint needs others than the default ones."""

    float32_ratio: Annotated[float, Field(gt=0, allow_inf_nan=False)] = RATIO
    """RMS error of an artifact to the float64 oracle, in multiples of a good float32 implementation's, at most."""
    because: Reason | None = None
    """Why the limit is not the default one; required when it is not."""
    expires: Day | None = None
    """The last day on which the other limit counts, as 2026-12-31; required when it is not the default one."""
    rules: Annotated[tuple[Rule, ...], Field(strict=False)] = ()
    """Rules of `vitport verify` for this checkpoint, after those of the policy; docs/policy.md has their fields."""

    @model_validator(mode="after")
    def _has_a_reason(self) -> "GatesFields":
        if self.float32_ratio != RATIO:
            for field in ("because", "expires"):
                if not getattr(self, field):
                    raise ValueError(f"float32_ratio {self.float32_ratio:g} is not the default; say it in `{field}`")
        for rule in self.rules:
            if rule.expires is None:
                raise ValueError(f"the rule for {rule.gate} needs a date in `expires`: an exception is not for ever")
        return self

    def ratio(self, today: date) -> float:
        """The limit that counts today."""
        return RATIO if self.expires and self.expires < today else self.float32_ratio

    @property
    def overrides(self) -> tuple[Rule, ...]:
        """All of it as rules of a policy."""
        if self.float32_ratio == RATIO:
            return self.rules
        facts = {"because": self.because, "expires": self.expires, "precision": ("float32",), "backend": RATED}
        return (Rule(gate="numeric", limit=self.float32_ratio, floor=FLOOR, **facts), *self.rules)


def _by_type(value: Any) -> str | None:
    return {str: "name", dict: "numbers", list: "names"}.get(type(value))


def _either(sentence: str) -> Discriminator:
    return Discriminator(_by_type, custom_error_type="either", custom_error_message=sentence)


PublishedName = Annotated[Literal[tuple(PUBLISHED)], Tag("name")]
Labels = Annotated[tuple[Text, ...], *LIST, Tag("names")]


class ManifestFields(_Model):
    """One published checkpoint, and the artifacts to make of it."""

    schema_version: Literal[1] = Field(alias="schema")
    """Version of this format."""
    name: Name
    """Name on the command line and in every output; equal to the file's name without `.yaml`."""
    title: Text
    """One line for people."""
    asset: AssetFields
    """The checkpoint file."""
    architecture: Annotated[
        PublishedName | Annotated[ArchitectureFields, Tag("numbers")],
        _either("must be the name of a published architecture or a mapping of its numbers"),
    ]
    """A published architecture (`S_16`, `R26_S_32`), or the numbers of another one."""
    resolution: Annotated[int, Field(ge=1, le=LARGEST_RESOLUTION)]
    """Side of the square input in pixels."""
    num_classes: Count
    """Outputs of the head."""
    labels: (
        Annotated[
            Annotated[Literal[IMAGENET], Tag("name")] | Labels,
            _either(f"must be {IMAGENET} or a list of names"),
        ]
        | None
    ) = None
    """What the outputs mean: `imagenet2012`, the name of the label set, or as many different names as classes."""
    preprocessing: PreprocessingFields = PreprocessingFields()
    """How a picture becomes the input."""
    variants: Annotated[tuple[Literal[VARIANTS], ...], *LIST] = VARIANTS
    """classifier (logits), features (pre-logits), or both."""
    formats: Annotated[tuple[Literal[tuple(FORMATS)], ...], *LIST] | None = None
    """Formats to write; if absent, all that can hold the architecture but torch_export and stablehlo."""
    saved_model: SavedModelFields = SavedModelFields()
    """Options of the SavedModel."""
    onnx: OnnxFields = OnnxFields()
    """Options of the ONNX model."""
    license: Spdx
    """SPDX identifier of the weights' licence."""
    published: PublishedFields = PublishedFields()
    """What others have published about this checkpoint."""
    gates: GatesFields = GatesFields()
    """Limits of the parity gates."""

    @field_validator("*")
    @classmethod
    def _remember(cls, value: Any, info: Any) -> Any:
        """Hands every valid field to the caller even when another one is not, so that all errors come at once."""
        if info.context is not None:
            info.context[info.field_name] = value
        return value


def json_schema() -> dict[str, Any]:
    """The JSON schema of a manifest, for editors and for `jsonschema`; a field's docstring is its description."""
    return describe_fields(ManifestFields, __name__, Rule.__module__)
