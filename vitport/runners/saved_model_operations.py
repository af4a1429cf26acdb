"""Which operations of a stranger's SavedModel may run: those that compute, and none that reach out of the model.

TensorFlow's own registry says which operations have side effects. Of those a model needs a few, below; whatever else
has them is refused, and what touches files without being marked so is refused by name. Every SavedModel also brings
graphs that save and restore it: `tf.saved_model.load` runs them only where no object graph says what the model is.
"""

import re
from collections.abc import Iterable, Iterator

from tensorflow.core.framework.node_def_pb2 import NodeDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.python.framework import op_def_registry

OUTSIDE = re.compile("File|Dataset|Summary|Reader|Print|PyFunc|Debug|Save|Restore|Checkpoint|Sharded|Remote|Rpc")
"""In the name of an operation: of files, of the console, of Python, of other machines."""

INSIDE = re.compile(
    r"(Variable(V2)?|VarHandleOp|VarIsInitializedOp|ReadVariableOp|VariableShape|Assign(Add|Sub)?VariableOp"
    r"|DestroyResourceOp|Resource(Gather(Nd)?|StridedSliceAssign)|StatefulPartitionedCall|If|While|Case|Assert|Stack\w*"
    r"|XlaCallModule|TensorArray\w*|Random(Uniform(Int)?|StandardNormal|Shuffle)|StatelessRandomGetAlg|TemporaryVariable)"
)
"""Of the operations with side effects those that stay within the model: variables, calls, loops, dropout, and what
jax2tf makes of a program."""

RESTORES = {"RestoreV2", "ShardedFilename"}
"""How a model without an object graph reads its own variables when it is loaded."""

MAIN = ("saved_model_main_op", "legacy_init_op")
"""Collections of what such a model runs when it is loaded."""


def reaching_out(saved: SavedModel) -> list[str]:
    """The operations that running or loading the model may run, and that reach out of it."""
    return sorted({op for meta in saved.meta_graphs for op in _of(meta)})


def _of(meta: MetaGraphDef) -> Iterator[str]:
    functions = {each.signature.name: each.node_def for each in meta.graph_def.library.function}
    loaded = meta.object_graph_def.concrete_functions
    called = set(loaded) | {each.gradient_func for each in meta.graph_def.library.gradient}
    called |= {each.gradient_func for each in meta.graph_def.library.registered_gradients}
    if not loaded:
        nodes = {node.name: node for node in meta.graph_def.node}
        run = list(_before(nodes, _results(meta)))
        restored = list(_before(nodes, [meta.saver_def.restore_op_name] if meta.saver_def.restore_op_name else []))
        yield from _refused(run)
        yield from set(_refused(restored)) - RESTORES
        called |= set(_calls([*run, *restored]))
    for name in _closure(called, functions):
        yield from _refused(functions[name])


def _results(meta: MetaGraphDef) -> list[str]:
    """The tensors and operations that are asked for where there is no object graph."""
    asked = [port.name for signature in meta.signature_def.values() for port in signature.outputs.values()]
    there = [meta.collection_def[key] for key in MAIN if key in meta.collection_def]
    return asked + [name for collection in there for name in collection.node_list.value]


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


def _closure(names: Iterable[str], functions: dict[str, Iterable[NodeDef]]) -> set[str]:
    """The functions of those names, and all that they call."""
    pending, seen = list(names), set()
    while pending:
        name = pending.pop()
        if name in functions and name not in seen:
            seen.add(name)
            pending += _calls(functions[name])
    return seen


def _calls(nodes: Iterable[NodeDef]) -> Iterator[str]:
    for node in nodes:
        yield node.op  # a function may be an operation by its own name
        for value in node.attr.values():
            yield from (each.name for each in (value.func, *value.list.func) if each.name)


def _refused(nodes: Iterable[NodeDef]) -> Iterator[str]:
    """What the registry does not know is a function by its own name, or can't be loaded."""
    for node in nodes:
        known = op_def_registry.get(node.op)
        if known and (OUTSIDE.search(node.op) or (known.is_stateful and not INSIDE.fullmatch(node.op))):
            yield node.op
