"""Layouts export and restore to the bit, refuse what does not fit, and use the names that the real clients use."""

import re
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import small
from clients import need

from vitport.architectures import PUBLISHED, VARIANTS, Architecture, ResNet, Shapes, parameter_shapes
from vitport.arrays import Params
from vitport.errors import CheckpointError
from vitport.formats import Export, safetensors_timm, transformers_config
from vitport.layouts import huggingface, timm
from vitport.layouts.rows import Row
from vitport.layouts.transfer import export, restore

LAYOUTS = {"timm": timm, "huggingface": huggingface}

TIMM_HYBRID = replace(small.PLAIN, patch=2, width=48, resolution=64, resnet=ResNet(depths=(3, 4, 9)))
"""The published hybrid of three stages with a small transformer: the only stems that timm has."""

CASES = [("timm", a) for a in (small.PLAIN, small.STEM, TIMM_HYBRID)] + [("huggingface", small.PLAIN)]
IDS = ["timm-plain", "timm-stem", "timm-hybrid", "huggingface-plain"]

each_case = pytest.mark.parametrize(("layout", "architecture"), CASES, ids=IDS)
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def counted(shapes: Shapes) -> Params:
    """Leaves of which no two values are equal, so that nothing can move unseen."""
    params, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        params[name] = np.arange(start, start + size, dtype=np.uint32).view(np.float32).reshape(shape)
        start += size
    return params


def exported(layout: str, architecture: Architecture, variant: str = "classifier") -> Params:
    rows = LAYOUTS[layout].rows(architecture, variant)
    return export(rows, counted(parameter_shapes(architecture, variant)))


@each_case
@each_variant
def test_restore_undoes_export_to_the_bit(layout: str, architecture: Architecture, variant: str) -> None:
    shapes = parameter_shapes(architecture, variant)
    params = counted(shapes)
    restored = restore(LAYOUTS[layout].rows(architecture, variant), exported(layout, architecture, variant), shapes)
    assert restored.keys() == shapes.keys()
    for name, leaf in restored.items():
        assert leaf.tobytes() == params[name].tobytes(), name
        assert leaf.shape == shapes[name]


@each_case
@each_variant
def test_export_undoes_restore_to_the_bit(layout: str, architecture: Architecture, variant: str) -> None:
    tensors = exported(layout, architecture, variant)
    rows = list(LAYOUTS[layout].rows(architecture, variant))
    again = export(rows, restore(rows, tensors, parameter_shapes(architecture, variant)))
    assert {name: tensor.tobytes() for name, tensor in again.items()} == {n: t.tobytes() for n, t in tensors.items()}


@each_case
def test_every_value_arrives_exactly_once(layout: str, architecture: Architecture) -> None:
    tensors = exported(layout, architecture)
    values = np.concatenate([tensor.view(np.uint32).ravel() for tensor in tensors.values()])
    assert np.array_equal(np.sort(values), np.arange(values.size))


@each_case
def test_axes_are_turned(layout: str, architecture: Architecture) -> None:
    """Where a row has a pattern, the values move even if the shape were the same."""
    params, tensors = counted(parameter_shapes(architecture)), exported(layout, architecture)
    turned = [row for row in LAYOUTS[layout].rows(architecture, "classifier") if row.axes and "bias" not in row.ours]
    assert {row.ours.split("/")[-2] for row in turned} >= {"embedding", "query", "out", "Dense_0", "head"}
    for row in turned:
        start, size = row.part[0] * params[row.ours].size, params[row.ours].size
        if params[row.ours].shape[:2] != (1, 1) or layout == "huggingface":
            assert tensors[row.theirs].ravel()[start : start + size].tobytes() != params[row.ours].tobytes(), row.ours


def formula(layout: str, params: Params) -> dict[str, np.ndarray]:
    """A few slots by plain transposes, independent of the tables."""
    block, width = "Transformer/encoderblock_1", 15
    attention = f"{block}/MultiHeadDotProductAttention_1"
    weights = {p: params[f"{attention}/{p}/kernel"].reshape(width, -1).T for p in ("query", "key", "value")}
    out = params[f"{attention}/out/kernel"].reshape(-1, width).T
    patches = params["embedding/kernel"].transpose(3, 2, 0, 1)
    if layout == "timm":
        qkv = np.concatenate([weights["query"], weights["key"], weights["value"]])
        bias = np.concatenate([params[f"{attention}/{p}/bias"].ravel() for p in ("query", "key", "value")])
        return {
            "blocks.1.attn.qkv.weight": qkv,
            "blocks.1.attn.qkv.bias": bias,
            "blocks.1.attn.proj.weight": out,
            "blocks.1.mlp.fc1.weight": params[f"{block}/MlpBlock_3/Dense_0/kernel"].T,
            "patch_embed.proj.weight": patches,
            "head.weight": params["head/kernel"].T,
        }
    slot = "vit.encoder.layer.1"
    return {
        **{f"{slot}.attention.attention.{part}.weight": weight for part, weight in weights.items()},
        f"{slot}.attention.attention.key.bias": params[f"{attention}/key/bias"].ravel(),
        f"{slot}.attention.output.dense.weight": out,
        f"{slot}.intermediate.dense.weight": params[f"{block}/MlpBlock_3/Dense_0/kernel"].T,
        "vit.embeddings.patch_embeddings.projection.weight": patches,
        "classifier.weight": params["head/kernel"].T,
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slots_are_the_obvious_transposes(layout: str) -> None:
    params, tensors = counted(parameter_shapes(small.PLAIN)), exported(layout, small.PLAIN)
    for name, expected in formula(layout, params).items():
        assert tensors[name].shape == expected.shape, name
        assert tensors[name].tobytes() == np.ascontiguousarray(expected).tobytes(), name


# What does not fit is refused.


def refusal(layout: str, architecture: Architecture, tensors: Params) -> str:
    with pytest.raises(CheckpointError) as refused:
        restore(LAYOUTS[layout].rows(architecture, "classifier"), tensors, parameter_shapes(architecture))
    return str(refused.value)


@each_case
def test_missing_and_extra_tensors_make_a_difference(layout: str, architecture: Architecture) -> None:
    tensors = exported(layout, architecture)
    first = next(iter(tensors))
    tensors["surplus.weight"] = tensors.pop(first)
    assert refusal(layout, architecture, tensors) == (
        f"the leaves do not match the file (- missing, + unexpected):\n  - {first}\n  + surplus.weight"
    )


@each_case
def test_missing_and_extra_leaves_make_a_difference(layout: str, architecture: Architecture) -> None:
    params = counted(parameter_shapes(architecture))
    params["surplus"] = params.pop("cls")
    with pytest.raises(CheckpointError) as refused:
        export(LAYOUTS[layout].rows(architecture, "classifier"), params)
    assert str(refused.value) == ("the leaves do not match the layout (- missing, + unexpected):\n  - cls\n  + surplus")


MISSHAPEN = {
    "a row more": lambda tensor: np.concatenate([tensor, tensor[:1]]),
    "a row less": lambda tensor: tensor[:-1],
    "an axis more": lambda tensor: tensor[None],
    "flat": lambda tensor: tensor.ravel(),
    "backwards": lambda tensor: tensor.T,
    "a number": lambda tensor: np.array(tensor.flat[0]),
    "nothing": lambda tensor: tensor[:0],
}


@each_case
@pytest.mark.parametrize("change", MISSHAPEN)
def test_a_misshapen_tensor_is_refused_by_name(layout: str, architecture: Architecture, change: str) -> None:
    tensors = exported(layout, architecture)
    for name, tensor in tensors.items():
        wrong = MISSHAPEN[change](tensor)
        if wrong.shape != tensor.shape:
            message = refusal(layout, architecture, {**tensors, name: wrong})
            assert message.startswith(f"{name} has shape {wrong.shape}, which"), message


def test_unequal_parts_of_a_fused_tensor_are_refused() -> None:
    rows = [Row(name, "fused", part=(index, 2)) for index, name in enumerate("ab")]
    with pytest.raises(CheckpointError, match=r"fused has shape \(5,\), which is not 2 equal parts"):
        restore(rows, {"fused": np.zeros(5, np.float32)}, {"a": (2,), "b": (2,)})


@each_case
@pytest.mark.parametrize("fault", ["transposed kernel", "swapped parts"])
def test_a_wrong_table_does_not_pass_for_its_inverse(layout: str, architecture: Architecture, fault: str) -> None:
    """The identity above compares with the original leaves, so a wrong row in one direction is seen."""
    rows = list(LAYOUTS[layout].rows(architecture, "classifier"))
    query, key = (index for index, row in enumerate(rows) if re.search(r"block_0.*(query|key)/kernel", row.ours))
    wrong = list(rows)
    if fault == "swapped parts":
        wrong[query], wrong[key] = replace(rows[query], ours=rows[key].ours), replace(rows[key], ours=rows[query].ours)
    else:
        wrong[query] = replace(rows[query], axes="d h k -> (k h) d")
    shapes = parameter_shapes(architecture)
    params = counted(shapes)
    restored = restore(wrong, export(rows, params), shapes)
    assert next(n for n in shapes if restored[n].tobytes() != params[n].tobytes()) == rows[query].ours


# The names and shapes of the real clients.


def shapes_of(layout: str, architecture: Architecture, variant: str) -> Shapes:
    """Names and shapes of an export, without its weights."""
    leaves = {
        name: np.broadcast_to(np.float32(0), shape) for name, shape in parameter_shapes(architecture, variant).items()
    }
    return {name: tensor.shape for name, tensor in export(LAYOUTS[layout].rows(architecture, variant), leaves).items()}


def timm_shapes(architecture: Architecture, variant: str) -> Shapes:
    client = need("timm")
    import torch

    values = safetensors_timm.config(Export(architecture=architecture, variant=variant))
    with torch.device("meta"):
        model = client.create_model(
            values["architecture"], pretrained=False, num_classes=values["num_classes"], **values["model_args"]
        )
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def huggingface_shapes(architecture: Architecture, variant: str) -> Shapes:
    client = need("transformers")
    import torch

    values = transformers_config.config(Export(architecture=architecture, variant=variant))
    with torch.device("meta"):
        model = client.ViTForImageClassification(client.ViTConfig(**values))
    return {name: tuple(tensor.shape) for name, tensor in as_written(model).items()}


def as_written(model) -> dict:
    """The state under the names of the file: v5 turns its own names back when it saves, v4 has no others."""
    try:
        conversion = import_module("transformers.core_model_loading")
    except ImportError:
        return model.state_dict()
    return conversion.revert_weight_conversion(model, model.state_dict())


CLIENTS = {"timm": timm_shapes, "huggingface": huggingface_shapes}


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("layout", LAYOUTS)
@each_variant
def test_names_and_shapes_are_the_clients_own(layout: str, name: str, variant: str) -> None:
    architecture = PUBLISHED[name]
    if LAYOUTS[layout].inapplicable(architecture):
        assert layout == "huggingface"
        assert architecture.resnet
        return
    assert shapes_of(layout, architecture, variant) == CLIENTS[layout](architecture, variant)


@pytest.mark.parametrize("layout", LAYOUTS)
@each_variant
def test_names_and_shapes_are_the_clients_own_where_no_axes_are_equal(layout: str, variant: str) -> None:
    assert shapes_of(layout, small.PLAIN, variant) == CLIENTS[layout](small.PLAIN, variant)


def test_names_are_those_that_transformers_itself_saves(tmp_path) -> None:
    client = need("transformers")
    from vitport.formats import safetensors_file

    values = transformers_config.config(Export(architecture=small.PLAIN, variant="classifier"))
    client.ViTForImageClassification(client.ViTConfig(**values)).save_pretrained(tmp_path)
    saved = safetensors_file.read(tmp_path / "model.safetensors")
    assert shapes_of("huggingface", small.PLAIN, "classifier") == {name: leaf.shape for name, leaf in saved.items()}


INAPPLICABLE = {
    "huggingface, hybrid": (huggingface, small.STEM, "no convolutional stem"),
    "huggingface, pre_logits": (huggingface, small.REPRESENTATION, "no `pre_logits` layer"),
    "timm, pre_logits": (timm, small.REPRESENTATION, "dropped the `pre_logits` layer"),
    "timm, units": (timm, small.HYBRID, r"no hybrid with a stem of \(1, 2\) units and 32 root channels"),
    "timm, width": (timm, replace(small.STEM, resnet=ResNet(depths=(), width=32)), r"\(\) units and 32 root channels"),
}


@pytest.mark.parametrize("case", INAPPLICABLE)
def test_what_a_client_can_not_hold_is_said(case: str) -> None:
    layout, architecture, reason = INAPPLICABLE[case]
    assert re.search(reason, layout.inapplicable(architecture))


@pytest.mark.parametrize(("layout", "architecture"), CASES, ids=IDS)
def test_what_a_client_can_hold_has_no_objection(layout: str, architecture: Architecture) -> None:
    assert LAYOUTS[layout].inapplicable(architecture) is None
