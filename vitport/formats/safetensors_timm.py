"""A folder that stock timm loads: `timm.create_model("local-dir:<folder>", pretrained=True)` is the trained function.

timm differs from the original in three places. The erf GELU is set right in the configuration. StdConv adds its
epsilon to the variance, not to the standard deviation: the kernels are rescaled so that timm's formula arrives at the
original's result. GroupNorm has epsilon 1e-5 for 1e-6, which no weight can undo; it moves logits by less than float32
rounding does (measured in the tests).
"""

import math
from pathlib import Path

import numpy as np

from vitport.architectures import Architecture, ResNet, parameter_shapes
from vitport.architectures.hybrid import STD_CONV_EPS, is_std_conv
from vitport.arrays import Params
from vitport.backends import numpy as backend
from vitport.devices import Runner
from vitport.errors import AssetError
from vitport.formats import Export, Port, safetensors_file
from vitport.formats.safetensors_file import WEIGHTS, differences, read_config, write_config
from vitport.layouts import timm
from vitport.layouts.transfer import export as export_rows
from vitport.layouts.transfer import restore

INPUT = Port("pixel_values", "NCHW")

VERSIONS: dict[str, str] = {}

GELU = "gelu_tanh"
"""timm's name of the tanh GELU; its default is the erf one."""

TIMM_STD_CONV_EPS = 1e-8
"""Added to the variance (timm `vision_transformer_hybrid.py`, `_resnetv2`)."""

TIMM_GROUP_NORM_EPS = 1e-5
"""timm `layers/norm_act.py`, `GroupNormAct`."""

SQUASH = {
    "interpolation": "bilinear",
    "crop_pct": 1.0,
    "crop_mode": "squash",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}
"""The published evaluation in timm's words, beside the size."""


def output(spec: Export) -> str:
    """timm returns a bare tensor; this is what it is."""
    return spec.tap


def export(spec: Export, params: Params, folder: Path) -> None:
    """Writes `model.safetensors` and `config.json`."""
    leaves = {name: params[name] for name in parameter_shapes(spec.architecture, spec.variant)}
    leaves |= {name: rescale(leaf) for name, leaf in leaves.items() if is_std_conv(name)}
    safetensors_file.write(folder / WEIGHTS, export_rows(timm.rows(spec.architecture, spec.variant), leaves))
    write_config(folder / "config.json", config(spec))


def load(folder: Path, device: str = "cpu") -> Runner:
    """Runs the folder's configuration and weights in NumPy on the CPU, with timm's own StdConv and GroupNorm."""
    values = read_config(folder / "config.json")
    if values["model_args"]["act_layer"] != GELU:
        raise AssetError(f"{folder}/config.json says act_layer {values['model_args']['act_layer']!r}, not {GELU!r}")
    architecture = _architecture(values)
    variant = "classifier" if values["num_classes"] else "features"
    tensors = safetensors_file.verify(folder / WEIGHTS)
    params = restore(timm.rows(architecture, variant), tensors, parameter_shapes(architecture, variant))
    ops = TimmOps if architecture.resnet else backend.NumPyOps
    return backend.Model(architecture, variant, params, ops).runner()


class TimmOps(backend.NumPyOps):
    """NumPy with the two operations that timm computes otherwise."""

    def standardize(self, kernel: np.ndarray, eps: float) -> np.ndarray:
        columns = np.ascontiguousarray(kernel.reshape(-1, kernel.shape[-1]).T)
        columns = columns - columns.mean(axis=1, keepdims=True)
        variance = np.square(columns).mean(axis=1, keepdims=True)
        return (columns / np.sqrt(variance + kernel.dtype.type(TIMM_STD_CONV_EPS))).T.reshape(kernel.shape)

    def group_norm(self, x: np.ndarray, scale: np.ndarray, bias: np.ndarray, groups: int, eps: float) -> np.ndarray:
        return super().group_norm(x, scale, bias, groups, TIMM_GROUP_NORM_EPS)


def rescale(kernel: np.ndarray) -> np.ndarray:
    """The kernel k for which timm's `(k - mean) / sqrt(var + 1e-8)` is the original's `(w - mean) / (std + 1e-5)`.

    k = a (w - mean) with a per output channel: a / sqrt(a^2 s^2 + v) = 1 / (s + e) gives a^2 = v / (2 s e + e^2),
    for s the kernel's standard deviation, e = 1e-5 and v = 1e-8.
    """
    exact = kernel.astype(np.float64)
    centred = exact - exact.mean(axis=(0, 1, 2))
    std = np.sqrt(np.square(centred).mean(axis=(0, 1, 2)))
    gain = np.sqrt(TIMM_STD_CONV_EPS / (2 * std * STD_CONV_EPS + STD_CONV_EPS**2))
    return (gain * centred).astype(kernel.dtype)


def rescale_slope(kernel: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """A derivative by `kernel` from one by `rescale(kernel)`: the rule of the chain, in float64.

    With c = w - mean: dk/dc = a + c a'(s) ds/dc, where ds/dc = c / (N s) and a' = -a e / (2 s e + e^2).
    """
    exact, outer = kernel.astype(np.float64), slope.astype(np.float64)
    centred = exact - exact.mean(axis=(0, 1, 2))
    std = np.sqrt(np.square(centred).mean(axis=(0, 1, 2)))
    denominator = 2 * std * STD_CONV_EPS + STD_CONV_EPS**2
    gain = np.sqrt(TIMM_STD_CONV_EPS / denominator)
    along = (outer * centred).mean(axis=(0, 1, 2)) / np.where(std, std, 1)
    by_centred = gain * (outer - centred * along * STD_CONV_EPS / denominator)
    return (by_centred - by_centred.mean(axis=(0, 1, 2))).astype(slope.dtype)


def config(spec: Export) -> dict:
    """timm's `config.json`: a registered model, the arguments that make it this one, and the preprocessing."""
    a, count = spec.architecture, spec.architecture.num_classes if spec.variant == "classifier" else 0
    return {
        "architecture": timm.STEMS[a.resnet.depths] if a.resnet else "vit_base_patch16_224",
        "num_classes": count,
        "num_features": a.width,
        "global_pool": "token",
        "model_args": {
            "img_size": a.resolution,
            "patch_size": a.patch,
            "embed_dim": a.width,
            "depth": a.depth,
            "num_heads": a.heads,
            "mlp_ratio": mlp_ratio(a),
            "act_layer": GELU,
        },
        "pretrained_cfg": {
            "input_size": _input_size(a.resolution),
            "fixed_input_size": True,
            **SQUASH,
            "num_classes": count,
            "pool_size": None,
            "first_conv": _first_conv(a),
            "classifier": "head",
            **({"label_names": list(spec.labels)} if spec.labels and count else {}),
        },
    }


def labels(folder: Path) -> list[str]:
    """What the folder calls its classes, in their order; empty where it says nothing. Raises AssetError."""
    names = read_config(folder / "config.json").get("pretrained_cfg", {}).get("label_names")
    return [str(name) for name in names] if isinstance(names, list) else []


def preprocessing(folder: Path, resolution: int) -> list[str]:
    """What timm makes of a picture for the folder otherwise than the published evaluation; of what the folder leaves
    out timm makes something else. Raises AssetError."""
    values = read_config(folder / "config.json")
    said = values.get("pretrained_cfg", values)  # without it in the folders of old versions
    found = said if isinstance(said, dict) else {}
    return differences(found, {"input_size": _input_size(resolution), **SQUASH})


def mlp_ratio(architecture: Architecture) -> float:
    """The ratio from which timm's `int(width * ratio)` makes the MLP's width; the quotient may truncate to less."""
    ratio = architecture.mlp_width / architecture.width
    exact = int(architecture.width * ratio) == architecture.mlp_width
    return ratio if exact else math.nextafter(ratio, math.inf)


def _input_size(resolution: int) -> list[int]:
    return [3, resolution, resolution]


def _first_conv(architecture: Architecture) -> str:
    if architecture.resnet is None:
        return "patch_embed.proj"
    return "patch_embed.backbone.stem.conv" if architecture.resnet.depths else "patch_embed.backbone.conv"


def _architecture(values: dict) -> Architecture:
    arguments = values["model_args"]
    stems = {name: ResNet(depths=depths, width=timm.STEM_WIDTH) for depths, name in timm.STEMS.items()}
    return Architecture(
        patch=arguments["patch_size"],
        width=arguments["embed_dim"],
        depth=arguments["depth"],
        heads=arguments["num_heads"],
        mlp_width=int(arguments["embed_dim"] * arguments["mlp_ratio"]),
        resnet=stems.get(values["architecture"]),
        resolution=arguments["img_size"],
        num_classes=values["num_classes"] or 1,
    )
