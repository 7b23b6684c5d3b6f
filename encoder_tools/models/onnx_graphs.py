"""ONNX graphs put together: one after the other, and one or the other.

PyTorch's exporter records one path through the code. A graph that chooses between two is made of its parts here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geosam_es.errors import ModelError

from .libraries import INSTALL_REMEDY

__all__ = ["chain", "choose_by_count", "choose_by_length", "load_graph", "save_graph", "with_default"]


def _onnx() -> Any:
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"onnx cannot be imported ({error})", INSTALL_REMEDY) from error
    return onnx


def load_graph(path: Path) -> Any:
    """Read an onnx.ModelProto."""
    return _onnx().load(path)


def save_graph(model: Any, path: Path) -> None:
    """Write an onnx.ModelProto, of at most 2 GiB."""
    _onnx().save_model(model, path)


def _prefixed(model: Any, prefix: str, rename_outputs: bool = False) -> Any:
    """Return a copy of a graph with names that no other one has; inputs keep theirs, as graphs are joined by them."""
    graph = type(model.graph)()
    graph.CopyFrom(model.graph)
    del graph.value_info[:]
    kept = set() if rename_outputs else {item.name for item in graph.output}
    made = {tensor.name for tensor in graph.initializer} | _results(graph.node)
    names = {name: prefix + name for name in made - kept}
    _rename(graph.node, names)
    for node in graph.node:
        node.name = node.name and prefix + node.name
    for item in (*graph.initializer, *graph.output):
        item.name = names.get(item.name, item.name)
    return graph


def _results(nodes: Iterable[Any]) -> set[str]:
    results: set[str] = set()
    for node in nodes:
        results.update(node.output)
        for attribute in node.attribute:
            results |= _results(attribute.g.node)
    return results - {""}


def _rename(nodes: Iterable[Any], names: Mapping[str, str]) -> None:
    for node in nodes:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            _rename(attribute.g.node, names)
            for item in attribute.g.output:
                item.name = names.get(item.name, item.name)


def chain(models: Sequence[Any], outputs: Sequence[str]) -> Any:
    """Join graphs whose inputs are outputs of earlier ones, or inputs of the whole, by the same names.

    Parameters
    ----------
    models : sequence of onnx.ModelProto
        In the order in which they run. They take inputs of the same names as the same ones.
    outputs : sequence of str
        Outputs of any of them that the whole gives.

    Returns
    -------
    onnx.ModelProto
        Every constant is in it once, whichever of the graphs need it.
    """
    onnx = _onnx()
    parts = [_prefixed(model, f"{index}/") for index, model in enumerate(models)]
    known: dict[str, Any] = {}
    inputs = []
    for part in parts:
        for item in part.input:
            if item.name not in known:
                inputs.append(item)
                known[item.name] = item
        known.update({item.name: item for item in part.output})
    nodes = [node for part in parts for node in part.node]
    graph = onnx.helper.make_graph(nodes, "chain", inputs, [known[name] for name in outputs], [])
    graph.initializer.extend(_shared([tensor for part in parts for tensor in part.initializer], graph.node))
    whole = onnx.helper.make_model(graph, opset_imports=models[0].opset_import, ir_version=models[0].ir_version)
    onnx.checker.check_model(whole)
    return whole


def choose_by_length(few: Any, many: Any, counted: str, limit: int, absent: str | None = None) -> Any:
    """Make one graph of two with the same outputs: the first where an input is short, else the second.

    Parameters
    ----------
    few, many : onnx.ModelProto
    counted : str
        Name of the input whose length along its second axis decides.
    limit : int
        The largest length for which the first graph runs.
    absent : str, optional
        Name of a float32 input of either graph: if it has a value above zero, the second runs.

    Returns
    -------
    onnx.ModelProto
    """
    onnx = _onnx()
    make = onnx.helper.make_node
    condition = [
        make("Shape", [counted], ["count"], start=1, end=2),
        make("LessOrEqual", ["count", "limit"], ["is_few_1d"]),
        make("Squeeze", ["is_few_1d"], ["is_few"]),
    ]
    constants = [onnx.numpy_helper.from_array(np.array([limit], np.int64), "limit")]
    if absent is None:
        return _branch(few, many, "is_few", condition, constants)
    condition += [
        make("ReduceMax", [absent], ["greatest"], keepdims=0),
        make("LessOrEqual", ["greatest", "nothing"], ["is_absent"]),
        make("And", ["is_few", "is_absent"], ["is_plain"]),
    ]
    constants.append(onnx.numpy_helper.from_array(np.array(0, np.float32), "nothing"))
    return _branch(few, many, "is_plain", condition, constants)


def choose_by_count(some: Any, none: Any, count: str) -> Any:
    """Make one graph of two with the same outputs: the first where an int64 input of it is above zero.

    Returns
    -------
    onnx.ModelProto
    """
    onnx = _onnx()
    condition = [onnx.helper.make_node("Greater", [count, "nothing"], ["is_some"])]
    return _branch(some, none, "is_some", condition, [onnx.numpy_helper.from_array(np.array(0, np.int64), "nothing")])


def with_default(model: Any, name: str, value: int) -> Any:
    """Return the graph with an int64 input that need not be given."""
    model.graph.initializer.append(_onnx().numpy_helper.from_array(np.array(value, np.int64), name))
    return model


def _branch(first: Any, second: Any, condition: str, nodes: Sequence[Any], constants: Sequence[Any]) -> Any:
    """Make the graph that runs one of two by a condition, which the nodes compute or an input is."""
    onnx = _onnx()
    bodies = {"then": _prefixed(first, "then/", rename_outputs=True), "else": _prefixed(second, "else/", True)}
    inputs: dict[str, Any] = {}
    found = list(constants)
    for name, body in bodies.items():
        inputs.update({item.name: item for item in body.input})
        # What a branch needs it takes from the graph around it, where both find the constants they share.
        found.extend(body.initializer)
        del body.initializer[:], body.input[:]
        body.name = name
    outputs = list(first.graph.output)
    branches = {"then_branch": bodies["then"], "else_branch": bodies["else"]}
    run = onnx.helper.make_node("If", [condition], [item.name for item in outputs], **branches)
    graph = onnx.helper.make_graph([*nodes, run], "choice", list(inputs.values()), outputs, [])
    graph.initializer.extend(_shared(found, graph.node))
    return onnx.helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


def _shared(tensors: Sequence[Any], nodes: Iterable[Any]) -> list[Any]:
    """Keep one of each set of equal constants, and make the nodes take that one."""
    kept: dict[tuple[Any, ...], Any] = {}
    names: dict[str, str] = {}
    for tensor in tensors:
        array = _onnx().numpy_helper.to_array(tensor)
        first = kept.setdefault((array.dtype.str, array.shape, array.tobytes()), tensor)
        names[tensor.name] = first.name
    _rename(nodes, names)
    return list(kept.values())
