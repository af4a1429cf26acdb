"""The names of published checkpoint files, read into their fields.

AugReg (arXiv:2106.10270, vit_jax_augreg.ipynb):
`ARCH-DS-EPep-lr_LR-aug_AUG-wd_WD-do_DO-sd_SD[--FTDS-steps_S-lr_FTLR-res_RES]`.
The collections of 2020 (arXiv:2010.11929): `imagenet21k/ViT-B_16`, `imagenet21k+imagenet2012/ViT-B_16-224`.
All of them lie in the bucket `gs://vit_models`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from urllib.parse import quote, unquote

from vitport.architectures import Architecture, published
from vitport.errors import UsageError

BUCKET, MIRROR = "gs://vit_models/", "https://storage.googleapis.com/vit_models/"

LONGEST = 500
"""Characters of a name or its address; the longest of index.csv has 107."""

CLASSES = {
    "i21k": 21843,
    "i1k": 1000,
    "imagenet2012": 1000,
    "cifar100": 100,
    "kitti": 4,
    "oxford_iiit_pet": 37,
    "resisc45": 45,
}
"""Data set, as spelled in file names, to the outputs of a head trained on it."""

STEPS = {"0k": 500, "2k": 2500, "10k": 10_000, "20k": 20_000}
"""Spelling of the fine-tuning length to the number of steps."""

ARCHITECTURES = ("Ti_16", "S_32", "S_16", "B_32", "B_16", "B_8", "L_16", "R_Ti_16", "R26_S_32", "R50_L_32")

PRETRAINING = (
    ("architecture", "{}", ARCHITECTURES),
    ("dataset", "{}", ("i1k", "i21k")),
    ("epochs", "{}ep", ("30", "300")),
    ("learning rate", "lr_{}", ("0.001",)),
    ("augmentation", "aug_{}", ("none", "light0", "light1", "medium1", "medium2", "strong1", "strong2")),
    ("weight decay", "wd_{}", ("0.03", "0.1")),
    ("dropout", "do_{}", ("0.0", "0.1")),
    ("stochastic depth", "sd_{}", ("0.0", "0.1")),
)
FINETUNING = (
    ("fine-tuning dataset", "{}", ("imagenet2012", "cifar100", "kitti", "oxford_iiit_pet", "resisc45")),
    ("fine-tuning steps", "steps_{}", tuple(STEPS)),
    ("fine-tuning learning rate", "lr_{}", ("0.001", "0.003", "0.01", "0.03")),
    ("resolution", "res_{}", ("224", "384")),
)
"""Each field of an AugReg name in its order: what it is, how it is spelled, its values in index.csv.

How file names spell the 30-epoch set of index.csv (`i21k_30`) is not on public record; `i21k-30ep` is taken for it.
"""

_B8_ONLY = "B_8 was fine-tuned at resolution 224 only"

ORIGINALS = {
    "imagenet21k": {
        "ViT-B_8": ("B_8", 224),
        "ViT-B_16": ("B_16", 224),
        "ViT-B_32": ("B_32", 224),
        "ViT-L_16": ("L_16", 224),
        "ViT-L_32": ("L_32", 224),
        "ViT-H_14": ("H_14", 224),
        "R50+ViT-B_16": ("R50_B_16", 224),
    },
    "imagenet21k+imagenet2012": {
        "ViT-B_16-224": ("B_16", 224),
        "ViT-B_16": ("B_16", 384),
        "ViT-B_32": ("B_32", 384),
        "ViT-L_16-224": ("L_16", 224),
        "ViT-L_16": ("L_16", 384),
        "ViT-L_32": ("L_32", 384),
        "R50+ViT-B_16": ("R50_B_16", 384),
    },
}
"""Collection of 2020 to its files: name to architecture and resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How an AugReg checkpoint was pre-trained."""

    epochs: int
    lr: float
    augmentation: str
    weight_decay: float
    dropout: float
    stochastic_depth: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """On what an AugReg checkpoint was fine-tuned, and how. resolution: side of the input in pixels."""

    dataset: str
    steps: int
    lr: float
    resolution: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointName:
    """A published checkpoint, as far as its name tells.

    collection: folder of the bucket (`augreg`, or one of 2020). stem: file name without `.npz`. dataset: of the
    pre-training. recipe, finetuning: of AugReg names; finetuning is None for a checkpoint that was only pre-trained.
    """

    collection: str
    stem: str
    architecture_name: str
    dataset: str
    resolution: int
    num_classes: int
    recipe: Recipe | None = None
    finetuning: FineTuning | None = None

    @property
    def url(self) -> str:
        """gs:// address of the file."""
        return f"{BUCKET}{self.collection}/{self.stem}.npz"

    @property
    def mirror(self) -> str:
        """https:// address of the same file."""
        return MIRROR + quote(f"{self.collection}/{self.stem}.npz")

    @property
    def finetuned_on(self) -> str | None:
        """The data set of the head, None for a checkpoint that was only pre-trained."""
        if self.finetuning:
            return self.finetuning.dataset
        return "imagenet2012" if self.collection == "imagenet21k+imagenet2012" else None

    @property
    def architecture(self) -> Architecture:
        """The architecture with its head; `pre_logits` is as wide as a token in the 2020 ImageNet-21k files."""
        architecture = published(self.architecture_name, resolution=self.resolution, num_classes=self.num_classes)
        if self.collection != "imagenet21k":
            return architecture
        return replace(architecture, representation_size=architecture.width)


def parse(name_or_url: str) -> CheckpointName:
    """The checkpoint that a name, with or without `.npz`, or an address in the bucket stands for.

    Raises UsageError that says which field is wrong and what it can be.
    """
    if len(name_or_url) > LONGEST or not name_or_url.isprintable():
        raise UsageError(f"{name_or_url[:60]!a} is not the name of a checkpoint: too long, or not printable")
    collection, stem = _split(name_or_url)
    if collection == "augreg":
        return _augreg(stem)
    architecture, resolution = ORIGINALS[collection][stem]
    dataset, head = "i21k", "i21k" if collection == "imagenet21k" else "imagenet2012"
    return CheckpointName(
        collection=collection,
        stem=stem,
        architecture_name=architecture,
        dataset=dataset,
        resolution=resolution,
        num_classes=CLASSES[head],
    )


def _split(name_or_url: str) -> tuple[str, str]:
    path = name_or_url
    for prefix in (BUCKET, MIRROR):
        path = path.removeprefix(prefix)
    if "://" in path:
        raise UsageError(f"{name_or_url}: only addresses that start with {BUCKET} or {MIRROR} tell what they hold")
    collection, _, stem = (unquote(path) if path != name_or_url else path).removesuffix(".npz").rpartition("/")
    holders = [folder for folder, files in ORIGINALS.items() if stem in files]
    if collection in ("", "augreg") and not (holders and not collection):
        return "augreg", stem
    collection = collection or (holders[0] if len(holders) == 1 else "")
    if not collection:
        choices = " or ".join(f"{folder}/{stem}" for folder in holders)
        raise UsageError(f"{stem} is the name of two checkpoints; write {choices}")
    _check("collection", collection, ("augreg", *ORIGINALS), name_or_url)
    _check("file", stem, ORIGINALS[collection], name_or_url)
    return collection, stem


def _augreg(stem: str) -> CheckpointName:
    first, separator, second = stem.partition("--")
    architecture, dataset, epochs, lr, augmentation, *decay = _fields(first, PRETRAINING, stem)
    if decay[1] != decay[2]:
        raise UsageError(f"{stem}: dropout {decay[1]} and stochastic depth {decay[2]} differ; both are 0.0 or both 0.1")
    tuning = _finetuning(second, stem) if separator else None
    if architecture == "B_8" and tuning and tuning.resolution != 224:
        raise UsageError(f"{stem}: {_B8_ONLY}")
    return CheckpointName(
        collection="augreg",
        stem=stem,
        architecture_name=architecture,
        dataset=dataset,
        resolution=tuning.resolution if tuning else 224,
        num_classes=CLASSES[tuning.dataset if tuning else dataset],
        recipe=Recipe(
            epochs=int(epochs),
            lr=float(lr),
            augmentation=augmentation,
            weight_decay=float(decay[0]),
            dropout=float(decay[1]),
            stochastic_depth=float(decay[2]),
        ),
        finetuning=tuning,
    )


def _finetuning(text: str, stem: str) -> FineTuning:
    dataset, steps, lr, resolution = _fields(text, FINETUNING, stem)
    return FineTuning(dataset=dataset, steps=STEPS[steps], lr=float(lr), resolution=int(resolution))


Grammar = tuple[tuple[str, str, tuple[str, ...]], ...]


def _fields(text: str, grammar: Grammar, stem: str) -> list[str]:
    parts = text.split("-")
    if len(parts) != len(grammar):
        shape = "-".join(spelling.format(f"<{field}>") for field, spelling, _ in grammar)
        raise UsageError(
            f"{stem}: {text!r} must have {len(grammar)} fields between hyphens ({shape}), but has {len(parts)}"
        )
    return [_field(part, *row, stem) for part, row in zip(parts, grammar, strict=True)]


def _field(part: str, field: str, spelling: str, values: tuple[str, ...], stem: str) -> str:
    spelled = [spelling.format(value) for value in values]
    _check(field, part, spelled, stem)
    return values[spelled.index(part)]


def _check(field: str, text: str, choices: Iterable[str], stem: str) -> None:
    choices = tuple(choices)
    if text in choices:
        return
    close = get_close_matches(text, choices, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"{stem}: {field} {text!r} is not one of {', '.join(choices)}{hint}")
