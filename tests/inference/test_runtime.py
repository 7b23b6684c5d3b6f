from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from encoder_tools.models.checkpoints import mini_folder
from geosam_es.errors import ModelError
from geosam_es.inference.runtime import OnnxGraph, load_onnxruntime


def test_missing_and_damaged_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        OnnxGraph(tmp_path / "nothing.onnx")
    whole = (mini_folder() / "decoder.onnx").read_bytes()
    for name, content in {"empty.onnx": b"", "text.onnx": b"hello", "cut.onnx": whole[: len(whole) // 2]}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name} is not an ONNX model that onnxruntime"):
            OnnxGraph(tmp_path / name)


@pytest.mark.parametrize("text", [b"context16", b"one_or_batch"])
def test_names_and_dimensions_that_are_not_text_are_reported(tmp_path: Path, text: bytes) -> None:
    """onnxruntime loads such a graph."""
    whole = (mini_folder() / "decoder.onnx").read_bytes()
    assert text in whole
    (tmp_path / "a.onnx").write_bytes(whole.replace(text, b"\x8f" + text[1:]))
    with pytest.raises(ModelError, match=r"a\.onnx is not an ONNX model that onnxruntime"):
        OnnxGraph(tmp_path / "a.onnx")


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="only Linux has a file that cannot be read")
def test_a_file_that_cannot_be_read_is_not_called_a_bad_model(tmp_path: Path) -> None:
    """Reading the start of that file is an input/output error."""
    (tmp_path / "a.onnx").symlink_to("/proc/self/mem")
    os.mkfifo(tmp_path / "pipe.onnx")
    for name, reason in (
        ("a.onnx", r"a\.onnx cannot be read \(Input/output error\): check the file and its permissions"),
        ("pipe.onnx", r"pipe\.onnx cannot be read \(it is not a regular file\)"),
    ):
        with pytest.raises(ModelError, match=reason):
            OnnxGraph(tmp_path / name)


def test_inputs_that_do_not_fit_are_reported() -> None:
    graph = OnnxGraph(mini_folder() / "prepare.onnx", threads=1)
    assert list(graph.inputs) == ["image_embeddings"]
    for feeds in ({}, {"image_embeddings": np.zeros((1, 3, 64, 64), np.float32)}):
        with pytest.raises(ModelError, match=r"prepare\.onnx failed \("):
            graph.run(feeds)


def test_an_error_without_a_message_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
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


def fail_import(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Make ``import onnxruntime`` raise an error, as a package that is installed may."""

    class Loader:
        def create_module(self, _: object) -> None:
            raise error

        def exec_module(self, _: object) -> None:
            """Never reached."""

    class Finder:
        def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
            return ModuleSpec(name, Loader()) if name == "onnxruntime" else None  # type: ignore[arg-type]

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    monkeypatch.setattr("geosam_es.inference.runtime._load_library", lambda: None)


def test_a_missing_onnxruntime_is_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"onnxruntime is not installed: install it with: pip install onnxruntime"):
        OnnxGraph(mini_folder() / "prepare.onnx")


DLL = "DLL load failed while importing onnxruntime_pybind11_state: The specified module could not be found."


@pytest.mark.parametrize(
    ("platform", "error", "message"),
    [
        (
            "win32",
            ImportError(DLL, name="onnxruntime.capi.onnxruntime_pybind11_state"),
            r"does not load \(DLL load",
        ),
        ("win32", ImportError(DLL), r"install the Microsoft Visual C\+\+ Redistributable 2019 or later and restart"),
        ("win32", OSError("[WinError 126]"), r"for Python 3\.\d+ with: pip install --force-reinstall --no-deps onnxr"),
        (
            "linux",
            ImportError("libm.so.6: version `GLIBC_2.38' not found"),
            r"GLIBC_2.38' not found\): reinstall it wi",
        ),
        (
            "linux",
            ModuleNotFoundError("No module named 'onnxruntime.capi'", name="onnxruntime.capi"),
            r"installed but does not load \(No module named 'onnxruntime.capi'\): reinstall it with: pip",
        ),
        (
            "win32",
            ModuleNotFoundError("No module named 'coloredlogs'", name="coloredlogs"),
            r"onnxruntime needs coloredlogs, which is not installed: install it with: pip install coloredlogs",
        ),
        (
            "win32",
            ImportError("numpy.core.multiarray failed to import"),
            rf"does not work with NumPy {np.__version__} \(numpy.*: install .* --upgrade onnxruntime \"numpy==",
        ),
        ("linux", ModuleNotFoundError("No module named 'numpy._core'", name="numpy._core"), r"not work with NumPy \d"),
        (
            "win32",
            ValueError("numpy.dtype size changed, may indicate binary incompatibility. Expected 96, got 88"),
            r"does not work with NumPy",
        ),
        (
            "linux",
            ImportError("A module that was compiled using NumPy 1.x cannot be run in\nNumPy 2.0.2 as it may crash."),
            r"does not work with NumPy",
        ),
        ("linux", AttributeError("_ARRAY_API not found"), r"does not work with NumPy"),
        (
            "linux",
            RuntimeError("module compiled against API version 0x10 but this version of numpy is 0xe"),
            r"does not work with NumPy",
        ),
        ("linux", AttributeError("module 'numpy' has no attribute 'bool'"), r"does not work with NumPy"),
        # The name of NumPy alone does not make it the cause.
        (
            "linux",
            ImportError("/lib/numpy.libs/libgfortran.so: cannot open shared object file"),
            r"installed but does not load \(/lib/numpy\.libs/libg.*: reinstall it",
        ),
        (
            "linux",
            PermissionError(13, "Permission denied", "/lib/python3/numpy/__init__.py"),
            r"installed but does not load \(\[Errno 13\] Permission denied",
        ),
        (
            "linux",
            ModuleNotFoundError("No module named 'numpy'", name="numpy"),
            r"onnxruntime needs numpy, which is not installed",
        ),
        (
            "win32",
            ImportError("DLL load failed while importing _multiarray_umath: The specified module could not be found."),
            r"does not load \(DLL load failed.*Microsoft Visual C\+\+ Redistributable",
        ),
        (
            "win32",
            SyntaxError("source code cannot contain"),
            r"does not load \(source code cannot contain\): reinstall",
        ),
        ("linux", SyntaxError("source code cannot contain null bytes"), r"does not load \(source code"),
        ("darwin", ImportError(), r"does not load \(ImportError\(\)\): reinstall"),
    ],
)
def test_an_onnxruntime_that_does_not_load_is_not_called_missing(
    monkeypatch: pytest.MonkeyPatch, platform: str, error: Exception, message: str
) -> None:
    fail_import(monkeypatch, error)
    monkeypatch.setattr("geosam_es.inference.runtime.sys.platform", platform)
    with pytest.raises(ModelError, match=message) as raised:
        load_onnxruntime()
    assert "is not installed: install it with: pip install onnxruntime" not in str(raised.value)
    assert raised.value.__cause__ is error


def test_a_folder_left_by_an_uninstall_is_no_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(ModelError, match=r"installed but does not load \(.*InferenceSession.*reinstall"):
        load_onnxruntime()


def test_onnxruntime_keeps_no_usage_data(tmp_path: Path) -> None:
    """From version 1.29 on it writes an identifier of the machine below the home folder, and sends what it records."""
    code = """
import sys
from pathlib import Path
from geosam_es.inference.runtime import OnnxGraph
OnnxGraph(Path(sys.argv[1]))
"""
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    model = mini_folder() / "decoder.onnx"
    subprocess.run([sys.executable, "-c", code, model], cwd=Path(__file__).parents[2], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []


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


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="only Linux lists the libraries of a process")
def test_the_library_is_loaded_before_the_import() -> None:
    """Other threads can run meanwhile."""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LOADING], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
