"""The grammar of published names: every field read, or refused with what it can be."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitport import names
from vitport.errors import UsageError

S16 = "S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0"
TUNED = f"{S16}--imagenet2012-steps_20k-lr_0.03-res_224"


@st.composite
def augreg_names(draw: st.DrawFn) -> str:
    """Any name of the grammar, from the tables alone."""
    values = {field: draw(st.sampled_from(choices)) for field, _, choices in (*names.PRETRAINING, *names.FINETUNING)}
    values["stochastic depth"] = values["dropout"]
    if values["architecture"] == "B_8":
        values["resolution"] = "224"
    first, second = (
        "-".join(spelling.format(values[field]) for field, spelling, _ in grammar)
        for grammar in (names.PRETRAINING, names.FINETUNING)
    )
    return f"{first}--{second}" if draw(st.booleans()) else first


@given(augreg_names())
@settings(max_examples=200, deadline=None)
def test_addresses_are_read_back(name: str) -> None:
    checkpoint = names.parse(name)
    assert checkpoint.url == f"gs://vit_models/augreg/{name}.npz"
    assert names.parse(checkpoint.url) == names.parse(checkpoint.mirror) == names.parse(f"{name}.npz") == checkpoint


@pytest.mark.parametrize("name", [f"{folder}/{stem}" for folder, files in names.ORIGINALS.items() for stem in files])
def test_the_collections_of_2020(name: str) -> None:
    checkpoint = names.parse(name)
    assert names.parse(checkpoint.url) == names.parse(checkpoint.mirror) == checkpoint
    pretrained = name.startswith("imagenet21k/")
    assert checkpoint.num_classes == (21843 if pretrained else 1000)
    assert (checkpoint.architecture.representation_size is not None) == pretrained


def test_every_field_of_a_name() -> None:
    assert names.parse(TUNED) == names.CheckpointName(
        collection="augreg",
        stem=TUNED,
        architecture_name="S_16",
        dataset="i21k",
        resolution=224,
        num_classes=1000,
        recipe=names.Recipe(
            epochs=300, lr=0.001, augmentation="light1", weight_decay=0.03, dropout=0.0, stochastic_depth=0.0
        ),
        finetuning=names.FineTuning(dataset="imagenet2012", steps=20_000, lr=0.03, resolution=224),
    )


@pytest.mark.parametrize(
    ("dataset", "classes"),
    [("imagenet2012", 1000), ("cifar100", 100), ("kitti", 4), ("oxford_iiit_pet", 37), ("resisc45", 45)],
)
def test_classes_of_the_fine_tuning_sets(dataset: str, classes: int) -> None:
    assert names.parse(TUNED.replace("imagenet2012", dataset)).num_classes == classes


def test_a_checkpoint_that_was_only_pretrained_has_the_head_of_its_pretraining() -> None:
    assert names.parse(S16).num_classes == 21843
    assert names.parse(S16.replace("i21k", "i1k")).num_classes == 1000
    assert names.parse(S16).resolution == 224


@pytest.mark.parametrize("name", ["S_16-" * 101, "S_16\x1b[31m", "S_16\u202e", "S_16\udcff"], ids=ascii)
def test_what_can_not_be_shown_is_refused_in_a_line(name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of a checkpoint: too long, or not printable") as refusal:
        names.parse(name)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 200


def test_plus_signs_are_quoted_in_the_https_address_only() -> None:
    checkpoint = names.parse("imagenet21k+imagenet2012/ViT-B_16-224")
    assert checkpoint.url == "gs://vit_models/imagenet21k+imagenet2012/ViT-B_16-224.npz"
    assert checkpoint.mirror == (
        "https://storage.googleapis.com/vit_models/imagenet21k%2Bimagenet2012/ViT-B_16-224.npz"
    )


FIRST = "<architecture>-<dataset>-<epochs>ep-lr_<learning rate>-aug_<augmentation>-wd_<weight decay>"
REFUSALS = {
    "architecture": (
        S16.replace("S_16", "S16"),
        "architecture 'S16' is not one of Ti_16, S_32, S_16, B_32, B_16, B_8, L_16, R_Ti_16, R26_S_32, R50_L_32; "
        "did you mean S_16?",
    ),
    "architecture without files": (
        S16.replace("S_16", "R26_B_32"),
        "architecture 'R26_B_32' is not one of Ti_16, S_32, S_16, B_32, B_16, B_8, L_16, R_Ti_16, R26_S_32, "
        "R50_L_32; did you mean R26_S_32?",
    ),
    "dataset": (S16.replace("i21k", "i22k"), "dataset 'i22k' is not one of i1k, i21k; did you mean i21k?"),
    "epochs": (S16.replace("300ep", "90ep"), "epochs '90ep' is not one of 30ep, 300ep; did you mean 30ep?"),
    "learning rate with a hyphen": (
        S16.replace("lr_0.001", "lr_1e-3"),
        f"'{S16.replace('lr_0.001', 'lr_1e-3')}' must have 8 fields between hyphens "
        f"({FIRST}-do_<dropout>-sd_<stochastic depth>), but has 9",
    ),
    "augmentation": (
        S16.replace("light1", "medium3"),
        "augmentation 'aug_medium3' is not one of aug_none, aug_light0, aug_light1, aug_medium1, aug_medium2, "
        "aug_strong1, aug_strong2; did you mean aug_medium2?",
    ),
    "weight decay": (S16.replace("wd_0.03", "xx"), "weight decay 'xx' is not one of wd_0.03, wd_0.1"),
    "dropout": (
        S16.replace("do_0.0", "do_0.1"),
        "dropout 0.1 and stochastic depth 0.0 differ; both are 0.0 or both 0.1",
    ),
    "fine-tuning dataset": (
        TUNED.replace("imagenet2012", "imagenet"),
        "fine-tuning dataset 'imagenet' is not one of imagenet2012, cifar100, kitti, oxford_iiit_pet, resisc45; "
        "did you mean imagenet2012?",
    ),
    "steps": (
        TUNED.replace("20k", "20000"),
        "fine-tuning steps 'steps_20000' is not one of steps_0k, steps_2k, steps_10k, steps_20k; "
        "did you mean steps_20k?",
    ),
    "resolution": (
        TUNED.replace("res_224", "res_256"),
        "resolution 'res_256' is not one of res_224, res_384; did you mean res_224?",
    ),
    "B_8 at 384": (
        TUNED.replace("S_16", "B_8").replace("res_224", "res_384"),
        "B_8 was fine-tuned at resolution 224 only",
    ),
    "hyphen for underscore": (
        TUNED.replace("res_224", "res-224"),
        "'imagenet2012-steps_20k-lr_0.03-res-224' must have 4 fields between hyphens (<fine-tuning dataset>-"
        "steps_<fine-tuning steps>-lr_<fine-tuning learning rate>-res_<resolution>), but has 5",
    ),
    "architecture alone": (
        "S_16",
        f"'S_16' must have 8 fields between hyphens ({FIRST}-do_<dropout>-sd_<stochastic depth>), but has 1",
    ),
}


@pytest.mark.parametrize(("name", "message"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_name_the_field_and_its_values(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.parse(name)
    assert str(caught.value) == f"{name}: {message}"


ADDRESSES = {
    "another bucket": (
        "https://example.com/x.npz",
        "https://example.com/x.npz: only addresses that start with gs://vit_models/ or "
        "https://storage.googleapis.com/vit_models/ tell what they hold",
    ),
    "two checkpoints of one name": (
        "ViT-B_16",
        "ViT-B_16 is the name of two checkpoints; write imagenet21k/ViT-B_16 or imagenet21k+imagenet2012/ViT-B_16",
    ),
    "collection": (
        "gs://vit_models/sam/ViT-B_16.npz",
        "gs://vit_models/sam/ViT-B_16.npz: collection 'sam' is not one of augreg, imagenet21k, "
        "imagenet21k+imagenet2012",
    ),
    "file of a collection": (
        "imagenet21k/ViT-B_17",
        "imagenet21k/ViT-B_17: file 'ViT-B_17' is not one of ViT-B_8, ViT-B_16, ViT-B_32, ViT-L_16, ViT-L_32, "
        "ViT-H_14, R50+ViT-B_16; did you mean ViT-B_16?",
    ),
}


@pytest.mark.parametrize(("name", "message"), ADDRESSES.values(), ids=ADDRESSES.keys())
def test_refused_addresses(name: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        names.parse(name)
    assert str(caught.value) == message


@given(
    st.text(max_size=80) | st.lists(st.sampled_from([*S16.split("-"), "--", "/", "gs://"]), max_size=14).map("-".join)
)
@settings(max_examples=200, deadline=None)
def test_whatever_the_text_only_a_usage_error_comes_out(text: str) -> None:
    with suppress(UsageError):
        checkpoint = names.parse(text)
        assert names.parse(checkpoint.url) == checkpoint


def test_every_augreg_architecture_is_published() -> None:
    built = {name: names.parse(S16.replace("S_16", name)).architecture for name in names.ARCHITECTURES}
    assert [a.num_classes for a in built.values()] == [21843] * len(names.ARCHITECTURES)
    assert {a.resnet is None for a in built.values()} == {True, False}
