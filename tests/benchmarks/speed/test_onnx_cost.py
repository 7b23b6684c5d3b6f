"""The counter of operations, on graphs whose cost is known by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.speed.onnx_cost import GraphCost, graph_cost
from geosam_es.errors import ModelError

onnx = pytest.importorskip("onnx")
helper, FLOAT, BOOL = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL


def write(path: Path, nodes: list, inputs: dict, outputs: dict, constants: dict) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, FLOAT, shape) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_products_and_convolutions(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["a", "weight"], ["product"]),  # (n, 3, 5) x (5, 7)
        helper.make_node("Reshape", ["product", "shape"], ["image"]),  # (n, 1, 3, 7)
        helper.make_node("Conv", ["image", "kernel"], ["maps"]),  # 2 kernels of 1 x 2 x 2: (n, 2, 2, 6)
        helper.make_node("ConvTranspose", ["maps", "back"], ["y"]),  # to 4 channels, 2 x 2: (n, 4, 3, 7)
    ]
    constants = {
        "weight": np.ones((5, 7), np.float32),
        "shape": np.array([-1, 1, 3, 7]),
        "kernel": np.ones((2, 1, 2, 2), np.float32),
        "back": np.ones((2, 4, 2, 2), np.float32),
    }
    path = write(tmp_path / "g.onnx", nodes, {"a": ["n", 3, 5]}, {"y": ["n", 4, 3, 7]}, constants)
    for n in (1, 4):
        product, convolution, transposed = 3 * 7 * 5, 2 * 2 * 6 * 4, 2 * 2 * 6 * 4 * 4
        values = 3 * 7 + 2 * 2 * 6 + 4 * 3 * 7
        assert graph_cost(path, {"a": (n, 3, 5)}) == GraphCost(
            2 * n * (product + convolution + transposed), 3, 4 * n * values
        )


def test_only_the_outputs_asked_for_and_the_branch_that_is_taken(tmp_path: Path) -> None:
    def branch(name: str, weight: str) -> object:
        result = helper.make_tensor_value_info(name, FLOAT, None)
        return helper.make_graph([helper.make_node("MatMul", ["a", weight], [name])], name, [], [result])

    nodes = [
        helper.make_node("Shape", ["a"], ["size"], start=0, end=1),
        helper.make_node("Less", ["size", "limit"], ["few"]),
        helper.make_node("Squeeze", ["few"], ["is_few"]),
        helper.make_node("If", ["is_few"], ["y"], then_branch=branch("p", "thin"), else_branch=branch("q", "wide")),
        helper.make_node("MatMul", ["a", "thin"], ["z"]),
    ]
    constants = {
        "limit": np.array([10]),
        "thin": np.ones((6, 2), np.float32),
        "wide": np.ones((6, 100), np.float32),
    }
    path = write(tmp_path / "g.onnx", nodes, {"a": ["n", 6]}, {"y": ["n", "w"], "z": ["n", 2]}, constants)
    assert graph_cost(path, {"a": (4, 6)}, ["y"]).flops == 2 * 4 * 6 * 2
    assert graph_cost(path, {"a": (20, 6)}, ["y"]).flops == 2 * 20 * 6 * 100
    assert graph_cost(path, {"a": (20, 6)}).flops == 2 * 20 * 6 * (100 + 2)


def test_values_that_decide_a_shape(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["n"], ["count"], to=onnx.TensorProto.INT64),
        helper.make_node("Tile", ["a", "count"], ["tiled"]),
        helper.make_node("MatMul", ["tiled", "weight"], ["y"]),
    ]
    constants = {"weight": np.ones((2, 5), np.float32)}
    path = write(tmp_path / "g.onnx", nodes, {"a": [1, 2], "n": [2]}, {"y": ["m", 5]}, constants)
    assert graph_cost(path, {}, values={"n": np.array([3, 1], np.float32)}).flops == 2 * 3 * 2 * 5
    with pytest.raises(ModelError, match=r"stays open"):
        graph_cost(path, {})


def test_a_size_that_depends_on_the_data(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["mask"], ["places_2d"]),
        helper.make_node("Squeeze", ["places_2d", "axis"], ["places"]),
        helper.make_node("Gather", ["a", "places"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weight"], ["y"]),
    ]
    constants = {"weight": np.ones((6, 3), np.float32), "axis": np.array([0])}
    path = write(tmp_path / "g.onnx", nodes, {"a": [50, 6], "mask": [50]}, {"y": ["m", 3]}, constants)
    cost = graph_cost(path, {}, values={"places_2d": np.zeros((1, 20), np.int64)})
    assert cost.flops == 2 * 20 * 6 * 3


def test_a_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "g.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=r"g\.onnx is not an ONNX model"):
        graph_cost(path, {})
