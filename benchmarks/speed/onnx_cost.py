"""Cost of an ONNX graph for given input shapes, counted and not timed, so that tests can bound it.

onnxruntime first simplifies the graph for these shapes, as it does on loading: it computes constants, chooses the
branch of an `If` where the shapes determine it, and drops nodes without effect. The remaining nodes are counted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from geosam_es.errors import ModelError

__all__ = ["GraphCost", "graph_cost"]

_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""Their result shares the memory of their input."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class GraphCost:
    """Cost of one run.

    Attributes
    ----------
    flops : int
        Floating-point operations of matrix products and convolutions, where a multiplication and an addition are two.
        Other nodes are limited by memory, see `bytes`.
    tensors : int
        Number of computed tensors.
    bytes : int
        Size of these tensors together, in bytes.
    """

    flops: int
    tensors: int
    bytes: int


def graph_cost(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    outputs: Sequence[str] | None = None,
    values: Mapping[str, NDArray[Any]] | None = None,
) -> GraphCost:
    """Count the operations and the intermediate results of one run of a graph.

    Parameters
    ----------
    path : Path
        An ONNX file.
    shapes : mapping of str to sequence of int
        Shapes of the inputs with dynamic dimensions; others may be given too.
    outputs : sequence of str, optional
        Names of the outputs to count for; all by default.
    values : mapping of str to array, optional
        Inputs and intermediate results that shapes depend on, such as SAM's ``orig_im_size``. They are not counted.

    Returns
    -------
    GraphCost

    Raises
    ------
    ModelError
        If onnx is not installed, the file is not a graph, or the shapes do not determine all others.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"onnx cannot be imported ({error})", "install it with: pip install onnx") from error
    with tempfile.TemporaryDirectory(prefix="geosam-es-") as folder:
        fixed = Path(folder) / "fixed.onnx"
        _fix(path, shapes, outputs, values or {}, fixed)
        simple = _simplified(fixed, path.name)
        try:
            model = onnx.shape_inference.infer_shapes(onnx.load(simple), strict_mode=True, data_prop=True)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
            raise ModelError(f"the shapes in {path} do not fit ({error})", "check the shapes of the inputs") from error
    known = {info.name: info.type.tensor_type for info in _infos(model.graph)}
    flops = tensors = size = 0
    for node in _needed(model.graph):
        if any(attribute.HasField("g") for attribute in node.attribute):
            # Its body would not be counted.
            raise ModelError(
                f"{path} has a {node.op_type} that the shapes do not decide", "give the shapes of all inputs"
            )
        results = [name for name in node.output if name]
        if node.op_type not in _VIEWS:
            tensors += len(results)
            size += sum(_bytes(known, name, path) for name in results)
        flops += _flops(node, lambda name: _shape(known, name, path))
    return GraphCost(flops, tensors, size)


def _fix(
    path: Path,
    shapes: Mapping[str, Sequence[int]],
    outputs: Sequence[str] | None,
    values: Mapping[str, NDArray[Any]],
    target: Path,
) -> None:
    """Write the graph with the shapes and values of inputs fixed and only some of the outputs."""
    import onnx

    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors, and the system's
        raise ModelError(f"{path} is not an ONNX model", "copy or export the model again") from error
    graph = model.graph
    # An input with a default is taken to have it.
    constants = [item for item in graph.initializer if item.name not in values]
    constants += [onnx.numpy_helper.from_array(array, name) for name, array in values.items()]
    known = {item.name for item in constants}
    inputs = [item for item in graph.input if item.name not in known]
    for item in inputs:
        for dimension, value in zip(item.type.tensor_type.shape.dim, shapes.get(item.name, ())):
            dimension.dim_value = value
    kept = [item for item in graph.output if outputs is None or item.name in outputs]
    _remove_results(graph, frozenset(values))
    changes = (graph.initializer, constants), (graph.input, inputs), (graph.output, kept)
    for field, items in changes:
        del field[:]
        field.extend(items)
    onnx.save_model(model, target, save_as_external_data=True, location="fixed.data")


def _remove_results(graph: Any, names: frozenset[str]) -> None:
    """Remove the nodes that compute what is known, in branches too."""
    kept = [node for node in graph.node if names.isdisjoint(node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _remove_results(attribute.g, names)


def _simplified(path: Path, name: str) -> Path:
    """Let onnxruntime simplify a graph, and return the path of the result."""
    import onnxruntime

    target = path.with_name("simple.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    # The basic level keeps to the operators of ONNX.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = os.fspath(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "simple.data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        onnxruntime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes share no public base
        reason = (str(error).strip() or repr(error)).splitlines()[-1]
        raise ModelError(f"onnxruntime cannot load {name} ({reason})", "check the shapes of the inputs") from error
    return target


def _needed(graph: Any) -> list[Any]:
    """Return the nodes that the outputs depend on."""
    wanted = {item.name for item in graph.output}
    nodes = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _infos(graph: Any) -> list[Any]:
    import onnx

    constants = [
        onnx.helper.make_tensor_value_info(item.name, item.data_type, list(item.dims)) for item in graph.initializer
    ]
    return [*graph.value_info, *graph.input, *graph.output, *constants]


def _shape(known: Mapping[str, Any], name: str, path: Path) -> Shape:
    dimensions = known[name].shape.dim if name in known else None
    if dimensions is None or not all(item.HasField("dim_value") for item in dimensions):
        raise ModelError(f"the shape of {name} in {path} stays open", "give the shapes of all inputs")
    return tuple(item.dim_value for item in dimensions)


def _bytes(known: Mapping[str, Any], name: str, path: Path) -> int:
    import onnx

    shape = _shape(known, name, path)
    return prod(shape) * int(onnx.helper.tensor_dtype_to_np_dtype(known[name].elem_type).itemsize)


def _flops(node: Any, shape_of: Callable[[str], Shape]) -> int:
    """Count the multiplications and additions of a product or a convolution; 0 for any other node."""
    kind = node.op_type
    if kind == "MatMul":
        return 2 * prod(shape_of(node.output[0])) * int(shape_of(node.input[0])[-1])
    if kind == "Gemm":
        is_transposed = any(item.name == "transA" and item.i for item in node.attribute)
        return 2 * prod(shape_of(node.output[0])) * int(shape_of(node.input[0])[0 if is_transposed else 1])
    if kind == "Conv":
        return 2 * prod(shape_of(node.output[0])) * prod(shape_of(node.input[1])[1:])
    if kind == "ConvTranspose":
        return 2 * prod(shape_of(node.input[0])) * prod(shape_of(node.input[1])[1:])
    return 0
