"""Which operations of a stranger's SavedModel may run: those that compute, and none that reach out of the model.

TensorFlow's own registry says which operations have side effects. Of those a model needs a few, below; whatever else
has them is refused, and what touches files without being marked so is refused by name. Every SavedModel also brings
graphs that save and restore it: `tf.saved_model.load` runs them only where no object graph says what the model is. So
every function is looked at that is not theirs alone.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from google.protobuf.message import DecodeError
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.framework.variable_pb2 import VariableDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, TensorInfo
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

from vitport.errors import AssetError

OUTSIDE = re.compile("File|Dataset|Summary|Reader|Print|PyFunc|Debug|Save|Restore|Checkpoint|Sharded|Remote|Rpc")
"""In the name of an operation: of files, of the console, of Python, of other machines."""

FILES = {"ImmutableConst", "DecodeProtoV2", "EncodeProto", "GenerateVocabRemapping"}

PROGRAMS = {"XlaCustomCall", "XlaCustomCallV2", "MlirPassthroughOp"}

UNMARKED = FILES | PROGRAMS | {"Copy", "CopyHost", "Abort"}
"""No side effects, says TensorFlow, and their names tell nothing: they read a file that the graph names, run a program
of its own, are a debugger's, or end the process."""

INSIDE = re.compile(
    r"(Variable(V2)?|VarHandleOp|VarIsInitializedOp|ReadVariableOp|VariableShape|Assign(Add|Sub)?VariableOp"
    r"|DestroyResourceOp|Resource(Gather(Nd)?|StridedSliceAssign)|StatefulPartitionedCall|If|While|Case|Assert|Stack\w*"
    r"|XlaCallModule|TensorArray\w*|Random(Uniform(Int)?|StandardNormal|Shuffle)|StatelessRandomGetAlg|TemporaryVariable)"
)
"""Of the operations with side effects those that stay within the model: variables, calls, loops, dropout, and what
jax2tf makes of a program."""

RESTORES = {"RestoreV2", "ShardedFilename"}
"""How a model without an object graph reads its own variables when it is loaded."""

MAIN = ("saved_model_main_op", "legacy_init_op", "table_initializer")
"""Collections of what such a model runs when it is loaded."""

LOCAL = "local_variables"
"""The collection of variables whose initializers it runs too."""

CHOSEN = "api_implements"
"""An attribute of functions: one may run in the place of another that has the same."""


def require_harmless(folder: Path) -> None:
    """Raises AssetError for a graph that reaches out of itself: to files, the console, Python, other machines."""
    try:
        saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    except (OSError, DecodeError) as error:
        raise AssetError(f"{folder} is no SavedModel: {error}") from error
    if found := reaching_out(saved):
        raise AssetError(f"{folder} has operations that no ViT needs and that touch this machine: {', '.join(found)}")


def reaching_out(saved: SavedModel) -> list[str]:
    """The operations that running or loading the model may run, and that reach out of it."""
    return sorted({op for meta in saved.meta_graphs for op in _of(meta)})


def _of(meta: MetaGraphDef) -> Iterator[str]:
    functions = {each.signature.name: each for each in meta.graph_def.library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    loaded = set(meta.object_graph_def.concrete_functions)
    saver = meta.saver_def
    restored = list(_before(nodes, [saver.restore_op_name]))
    apart = list(_before(nodes, [saver.save_tensor_name])) + (restored if loaded else [])
    called = (functions.keys() - _closure(_calls(apart), functions)) | loaded
    called |= {name for name, each in functions.items() if CHOSEN in each.attr}
    if not loaded:
        run = list(_before(nodes, _results(meta)))
        yield from _refused(run)
        yield from set(_refused(restored)) - RESTORES
        called |= set(_calls([*run, *restored]))
    for name in _closure(called, functions):
        yield from _refused(functions[name].node_def)


def _results(meta: MetaGraphDef) -> list[str]:
    """The tensors and operations that are asked for where there is no object graph."""
    asked = [
        name
        for signature in meta.signature_def.values()
        for port in signature.outputs.values()
        for name in _tensors(port)
    ]
    there = [meta.collection_def[key] for key in MAIN if key in meta.collection_def]
    local = meta.collection_def[LOCAL].bytes_list.value if LOCAL in meta.collection_def else []
    asked += [VariableDef.FromString(each).initializer_name for each in local]
    return asked + [name for collection in there for name in collection.node_list.value]


def _tensors(port: TensorInfo) -> list[str]:
    """A sparse or composite output is several."""
    sparse = port.coo_sparse
    parts = [name for part in port.composite_tensor.components for name in _tensors(part)]
    return [port.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name, *parts]


def _before(nodes: dict[str, NodeDef], names: Iterable[str]) -> Iterator[NodeDef]:
    """The nodes of those names, and all that they are computed from."""
    pending, seen = [_node(name) for name in names], set()
    while pending:
        name = pending.pop()
        if name in nodes and name not in seen:
            seen.add(name)
            yield nodes[name]
            pending += [_node(each) for each in nodes[name].input]


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _closure(names: Iterable[str], functions: Mapping[str, FunctionDef]) -> set[str]:
    """The functions of those names, and all that they call."""
    pending, seen = list(names), set()
    while pending:
        name = pending.pop()
        if name in functions and name not in seen:
            seen.add(name)
            pending += _calls(functions[name].node_def)
    return seen


def _calls(nodes: Iterable[NodeDef]) -> Iterator[str]:
    for node in nodes:
        yield node.op  # a function may be an operation by its own name
        for value in node.attr.values():
            yield from _named(value)


def _named(value: AttrValue) -> Iterator[str]:
    """The functions in an attribute: one that is called is handed others by its own attributes."""
    for function in (value.func, *value.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _named(inner)


def _refused(nodes: Iterable[NodeDef]) -> Iterator[str]:
    """What the registry does not know is a function by its own name, or can't be loaded."""
    for node in nodes:
        known = op_def_registry.get(node.op)
        if known and (
            node.op in UNMARKED or OUTSIDE.search(node.op) or (known.is_stateful and not INSIDE.fullmatch(node.op))
        ):
            yield node.op
