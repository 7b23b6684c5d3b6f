from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from encoder_tools.models.loading import mini_folder
from geosam_es.errors import ModelError
from geosam_es.inference.runtime import OnnxGraph, available_cores


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is not there"):
        OnnxGraph(tmp_path / "nothing.onnx")
    whole = (mini_folder() / "decoder.onnx").read_bytes()
    for name, content in {"empty.onnx": b"", "text.onnx": b"hello", "cut.onnx": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name} is not an ONNX model that onnxruntime"):
            OnnxGraph(tmp_path / name)


def test_inputs_that_do_not_fit_are_told() -> None:
    graph = OnnxGraph(mini_folder() / "prepare.onnx", threads=1)
    assert list(graph.inputs) == ["image_embeddings"]
    for feeds in ({}, {"image_embeddings": np.zeros((1, 3, 64, 64), np.float32)}):
        with pytest.raises(ModelError, match=r"prepare\.onnx failed \("):
            graph.run(feeds)


def test_an_error_without_a_text_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        def run(self, *_: object) -> None:
            raise RuntimeError

    graph = OnnxGraph(mini_folder() / "prepare.onnx", threads=1)
    monkeypatch.setattr(graph, "_session", Silent())
    with pytest.raises(ModelError, match="RuntimeError"):
        graph.run({})


def test_only_the_outputs_asked_for_come_back() -> None:
    graph = OnnxGraph(mini_folder() / "prepare.onnx", threads=1)
    wanted = list(graph.outputs)[:1]
    assert list(graph.run({"image_embeddings": np.zeros((1, 512, 64, 64), np.float32)}, wanted)) == wanted


def test_inputs_with_a_default_need_not_be_given(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "more"], ["y"])],
        "sum",
        [info("x", 1, [1]), info("more", 1, [1])],
        [info("y", 1, [1])],
        [onnx.numpy_helper.from_array(np.ones(1, np.float32), "more")],
    )
    path = tmp_path / "graph.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    loaded = OnnxGraph(path, threads=1)
    assert (list(loaded.inputs), list(loaded.optional_inputs)) == (["x"], ["more"])
    one, five = np.ones(1, np.float32), np.full(1, 5, np.float32)
    assert loaded.run({"x": one})["y"] == 2
    assert loaded.run({"x": one, "more": five})["y"] == 6


@pytest.mark.parametrize("spinning", [False, True])
def test_threads_wait_actively_only_where_asked_and_only_during_a_run(spinning: bool) -> None:
    graph = OnnxGraph(mini_folder() / "prepare.onnx", threads=2, spinning=spinning)
    options = graph._session.get_session_options()
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == str(int(spinning))
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


def test_without_onnxruntime_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"onnxruntime is not installed: install it with: pip install onnxruntime"):
        OnnxGraph(mini_folder() / "prepare.onnx")


LOADING = """
import sys
from pathlib import Path
from geosam_es.inference import runtime

def is_loaded():
    return "onnxruntime_pybind11_state" in Path("/proc/self/maps").read_text()

assert not is_loaded()
runtime._load_library()
assert is_loaded() and "onnxruntime" not in sys.modules
assert runtime.load_onnxruntime() is runtime.load_onnxruntime() is sys.modules["onnxruntime"]
"""


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux tells what a process has loaded")
def test_the_library_is_loaded_before_the_import() -> None:
    """Which is when other threads can go on."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LOADING], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_is_a_core() -> None:
    assert available_cores() >= 1
