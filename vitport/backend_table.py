"""The backends that `verify` can run, a row each: whatever is known of one without importing its framework.

A row's module in `runners/` opens what it runs. The order is that in which they run and are reported.
"""

from dataclasses import dataclass
from types import MappingProxyType

PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
"""From exact to fast. float32: full products everywhere. tf32: float32 whose products are TensorFloat-32, on CUDA."""


@dataclass(frozen=True, slots=True)
class Backend:
    """One row of the table.

    artifact: the format that it runs, empty where it runs the checkpoint itself. packages: what must be installed.
    cast: whether it can run in bfloat16 and float16; the others' precision is fixed in the file, but for TF32.
    devices: where it can run. gradients: whether it can be fine-tuned, and its gradients be compared. tf32: whether it
    can be told to; a StableHLO program says itself that its products are full.
    """

    name: str
    artifact: str = ""
    packages: tuple[str, ...] = ()
    cast: bool = False
    devices: tuple[str, ...] = ("cpu", "cuda")
    gradients: bool = False
    tf32: bool = True

    @property
    def module(self) -> str:
        """Its room in `vitport.runners`."""
        return f"vitport.runners.{self.name.replace('-', '_')}"

    def impossible(self, precision: str, device: str) -> str | None:
        """Why it can't run so, in words; None where it can."""
        if device not in self.devices:
            return f"{self.name} runs on {' and '.join(self.devices)} only"
        if precision == "tf32" and device != "cuda":
            return "TF32 exists on CUDA devices only"
        if precision == "tf32" and not self.tf32:
            return f"the precision of {self.artifact} is fixed in its file"
        if precision in ("bfloat16", "float16") and not self.cast:
            return f"the precision of {self.artifact} is fixed in its file"
        return None


BACKENDS = MappingProxyType(
    {
        row.name: row
        for row in (
            Backend("flax", packages=("jax", "flax"), cast=True),
            Backend("saved_model", "saved_model", ("tensorflow",), gradients=True),
            Backend("torchscript", "torchscript", ("torch",), cast=True, gradients=True),
            Backend("torch", packages=("torch",), cast=True, gradients=True),
            Backend("onnx", "onnx", ("onnx", "onnxruntime")),
            Backend("onnx-reference", "onnx", ("onnx",), devices=("cpu",)),
            Backend("timm", "safetensors-timm", ("torch", "torchvision", "timm"), cast=True, gradients=True),
            Backend("transformers", "safetensors-transformers", ("torch", "transformers"), cast=True, gradients=True),
            Backend("torch_export", "torch_export", ("torch",)),
            Backend("stablehlo", "stablehlo", ("jax",), tf32=False),
        )
    }
)
"""`onnx` is ONNX Runtime, `onnx-reference` the evaluator of the standard, `torch` the definition run eagerly."""
