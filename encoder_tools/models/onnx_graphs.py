"""Joining ONNX graphs: one after the other, or a choice between two.

PyTorch's exporter records a single path through the code, so a graph with a choice is joined from exported parts.
`onnx.compose` does not serve here: it keeps a copy of the weights for each part, and has no choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .libraries import import_onnx

__all__ = ["chain", "choose_by_count", "choose_by_length", "with_default"]


def _prefixed(model: Any, prefix: str, rename_outputs: bool = False) -> Any:
    """Return a copy of a graph with a prefix on its names, but not on its inputs, by which graphs are joined."""
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
    """Join graphs that run one after the other, matching inputs and outputs by name.

    Parameters
    ----------
    models : sequence of onnx.ModelProto
        In the order in which they run. An input is the output of that name of an earlier graph, otherwise an input of
        the result.
    outputs : sequence of str
        Outputs of the result, from any of the graphs.

    Returns
    -------
    onnx.ModelProto
        Constants that several graphs use are stored once.
    """
    onnx = import_onnx()
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
    """Join two graphs with the same outputs, of which one runs, chosen by the length of an input.

    Parameters
    ----------
    few, many : onnx.ModelProto
        ``few`` runs for short inputs.
    counted : str
        Name of the input whose length along its second axis decides.
    limit : int
        Largest length for which ``few`` runs.
    absent : str, optional
        Name of a float32 input; ``many`` runs if it has a value above zero.

    Returns
    -------
    onnx.ModelProto
    """
    onnx = import_onnx()
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
    """Join two graphs with the same outputs, of which ``some`` runs if an int64 input of it is above zero.

    Returns
    -------
    onnx.ModelProto
    """
    onnx = import_onnx()
    condition = [onnx.helper.make_node("Greater", [count, "nothing"], ["is_some"])]
    return _branch(some, none, "is_some", condition, [onnx.numpy_helper.from_array(np.array(0, np.int64), "nothing")])


def with_default(model: Any, name: str, value: int) -> Any:
    """Give an int64 input a default value, which makes it optional."""
    model.graph.initializer.append(import_onnx().numpy_helper.from_array(np.array(value, np.int64), name))
    return model


def _branch(first: Any, second: Any, condition: str, nodes: Sequence[Any], constants: Sequence[Any]) -> Any:
    """Join two graphs of which one runs, by a condition that is an input or computed by the nodes."""
    onnx = import_onnx()
    bodies = {"then": _prefixed(first, "then/", rename_outputs=True), "else": _prefixed(second, "else/", True)}
    inputs: dict[str, Any] = {}
    found = list(constants)
    for name, body in bodies.items():
        inputs.update({item.name: item for item in body.input})
        # Branches read inputs and constants from the surrounding graph, where shared constants are stored once.
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
    """Keep one of each set of equal constants, and let the nodes use that one."""
    kept: dict[tuple[Any, ...], Any] = {}
    names: dict[str, str] = {}
    for tensor in tensors:
        array = import_onnx().numpy_helper.to_array(tensor)
        first = kept.setdefault((array.dtype.str, array.shape, array.tobytes()), tensor)
        names[tensor.name] = first.name
    _rename(nodes, names)
    return list(kept.values())
