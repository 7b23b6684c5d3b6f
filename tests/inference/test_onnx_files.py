"""Files that an ONNX file may make a program read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from geosam_es.errors import ModelError
from geosam_es.inference.onnx_files import external_files
from geosam_es.inference.runtime import OnnxGraph

ROOT = Path(__file__).parents[2]


def with_weights_in(path: Path, location: str, place: str = "initializer") -> Path:
    """Write a graph that adds weights from another file."""
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[16], data_location=TensorProto.EXTERNAL)
    for key, value in (("offset", "0"), ("location", location), ("length", "64")):
        weights.external_data.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [16]) for name in "xy"]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    inner = [helper.make_node("Constant", [], ["w"], value=weights)]
    if place == "subgraph":
        outer = helper.make_tensor_value_info("w", TensorProto.FLOAT, [16])
        branch = helper.make_graph(inner, "branch", [], [outer])
        yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
        nodes = [yes, helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch), *nodes]
    elif place == "constant":
        nodes = inner + nodes
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights] if place == "initializer" else [])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("place", ["initializer", "constant", "subgraph"])
@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "link.bin", "C:\\x", "a/../../secret.bin", "", "a\0b"]
)
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str, place: str) -> None:
    np.zeros(16, np.float32).tofile(tmp_path / "secret.bin")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = with_weights_in(tmp_path / "model" / "decoder.onnx", location, place)
    assert external_files(path) == {location}
    with pytest.raises(ModelError, match="reads weights from"):
        OnnxGraph(path)


@pytest.mark.parametrize("location", ["model.onnx.data", "data/w.bin"])
def test_weights_in_its_folder_are_read(tmp_path: Path, location: str) -> None:
    path = with_weights_in(tmp_path / "model.onnx", location)
    (tmp_path / "data").mkdir()
    np.arange(16, dtype=np.float32).tofile(tmp_path / location)
    assert OnnxGraph(path).run({"x": np.zeros(16, np.float32)})["y"][3] == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="only POSIX has pipes that look like files")
def test_a_pipe_in_the_place_of_weights_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.onnx.data")
    with pytest.raises(ModelError, match=r"model\.onnx\.data cannot be read \(it is not a regular file\)"):
        OnnxGraph(with_weights_in(tmp_path / "model.onnx", "model.onnx.data"))


def test_the_embedded_model_has_none() -> None:
    for path in (ROOT / "geosam_es" / "models" / "mini").glob("*.onnx"):
        assert external_files(path) == set()


def test_unknown_operators_are_refused(tmp_path: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Run", ["x"], ["y"], domain="evil.ops")], "g", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("evil.ops", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(ModelError, match="is not an ONNX model that onnxruntime"):
        OnnxGraph(tmp_path / "a.onnx")


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), st.integers(0, 2000))
@example([], 0)
@example([(139, 0)], 0)
def test_damaged_files_end(tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], cut: int) -> None:
    """Whatever the bytes, the names are told or the file is refused, and nothing else happens."""
    path = with_weights_in(tmp_path_factory.getbasetemp() / "fuzzed.onnx", "../secret.bin", "subgraph")
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content[: len(content) - cut % len(content)])
    with suppress(ValueError):
        assert isinstance(external_files(path), set)
    with pytest.raises(ModelError):
        OnnxGraph(path)
