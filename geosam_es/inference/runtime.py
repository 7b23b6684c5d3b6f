"""onnxruntime sessions with the options used throughout, and errors a user can act on."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..store.decoder_files import file_sha256, unreadable
from ..store.files import check_regular
from .onnx_files import external_files
from .packages import import_failure

__all__ = ["OnnxGraph", "available_cores", "load_onnxruntime", "new_session"]


class OnnxGraph:
    """A loaded ONNX file.

    Parameters
    ----------
    path : Path
    threads : int, optional
        Threads within an operator; by default one for each core.
    spinning : bool
        As for `new_session`.

    Raises
    ------
    ModelError
        If onnxruntime cannot be imported (see `import_failure`), or the file cannot be read or is not a model.
    """

    def __init__(self, path: Path, threads: int | None = None, *, spinning: bool = False) -> None:
        self.path = path
        onnxruntime = load_onnxruntime()
        _read(path, check_regular)
        _check_weights(path)
        try:
            self._session = new_session(os.fspath(path), threads, spinning=spinning)
            self.inputs = _by_name(self._session.get_inputs())
            self.optional_inputs = _by_name(self._session.get_overridable_initializers())
            self.outputs = _by_name(self._session.get_outputs())
        # onnxruntime's exceptions have no public base class.
        except Exception as error:
            # onnxruntime says the same of a file that cannot be read.
            _read(path, file_sha256)
            raise ModelError(
                "{path} is not an ONNX model that onnxruntime {version} can load",
                "copy or export the model again, or update onnxruntime",
                path=path,
                version=onnxruntime.__version__,
            ) from error

    def run(
        self, feeds: dict[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run the graph.

        Parameters
        ----------
        feeds : dict of str to array
            Keyed by input name.
        outputs : sequence of str, optional
            Names of the outputs to return; all by default.

        Returns
        -------
        dict of str to array

        Raises
        ------
        ModelError
            If an input has the wrong name, type or shape.
        """
        names = list(self.outputs) if outputs is None else list(outputs)
        try:
            return dict(zip(names, self._session.run(names, feeds)))
        except Exception as error:
            reason = (str(error).strip() or repr(error)).splitlines()[-1]
            raise ModelError(
                "{name} failed ({reason})",
                "use a store and a decoder of the same model",
                name=self.path.name,
                reason=reason,
            ) from error


def _by_name(items: Sequence[Any]) -> dict[str, Any]:
    """Return inputs or outputs of a graph by name; UnicodeDecodeError if a name or dimension is not UTF-8."""
    # The shape is decoded whenever it is read; reading it here makes it fail here.
    return {item.name: item for item in items if item.shape is not None}


def _check_weights(path: Path) -> None:
    """Refuse an ONNX file that reads weights outside its folder, by a link too, or from what is no file."""
    try:
        names = external_files(path)
    except OSError:
        # Explained where it is loaded.
        return
    except ValueError as error:
        raise ModelError("{path} is not an ONNX model", "copy or export the model again", path=path) from error
    folder = path.resolve().parent
    for name in sorted(names):
        weights = path.parent / name
        if {"\\", "\0"} & set(name) or folder not in weights.resolve().parents:
            raise ModelError(
                "{path} reads weights from {name}, outside its folder",
                "export the model again, or get it from somebody you trust",
                path=path,
                name=name,
            )
        # Path.exists raises if the name is too long.
        if os.path.exists(weights):  # noqa: PTH110
            _read(weights, check_regular)


def _read(path: Path, read: Callable[[Path], object]) -> None:
    """Call a function that reads a file, and explain its errors."""
    try:
        read(path)
    except FileNotFoundError as error:
        raise ModelError("{path} does not exist", "copy the store or the model again", path=path) from error
    except OSError as error:
        raise unreadable(path, error) from error


def new_session(model: str | bytes, threads: int | None = None, *, arena: bool = True, spinning: bool = False) -> Any:
    """Load a graph with the options shared by all graphs.

    Parameters
    ----------
    model : str or bytes
        Path or contents of an ONNX file.
    threads : int, optional
        Threads within an operator; by default one for each core.
    arena : bool
        Whether the session keeps the memory of a run for the next one.
    spinning : bool
        Whether threads busy-wait for each other during a run. This pays off for graphs of many small operators, not
        for a few large ones.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    ModelError
        If onnxruntime cannot be imported.
    Exception
        An onnxruntime exception if it cannot load the graph.
    """
    onnxruntime = load_onnxruntime()
    # For the builds on Windows, which take no notice of the variable that `load_onnxruntime` sets.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    # Threads that spin between runs would take the core that QGIS draws with.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_onnxruntime() -> Any:
    """Import onnxruntime, letting other threads run for most of that time.

    An import holds Python's lock and freezes the window of the process. More than half of the time goes into reading a
    library of 20 MiB if it is not in the file cache, so it is loaded first, without the lock.

    Returns
    -------
    module

    Raises
    ------
    PackageError
        If it cannot be imported; see `import_failure`.
    """
    # Before the library is loaded, which otherwise writes an identifier of the machine and sends usage data.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # Imported here so that the session and the store work without onnxruntime.
    try:
        if "onnxruntime" not in sys.modules and os.name == "posix":
            # The import below reports whatever cannot be loaded.
            with suppress(OSError, AttributeError):
                _load_library()
        import onnxruntime

        # An uninstall that failed halfway leaves a folder that imports as an empty package.
        _ = onnxruntime.InferenceSession
    # A package built for another NumPy raises ValueError or RuntimeError.
    except Exception as error:
        raise import_failure("onnxruntime", error) from error
    return onnxruntime


def _load_library() -> None:
    package = importlib.util.find_spec("onnxruntime")
    # Called as a foreign function, it runs without the lock, which ctypes keeps while it loads a library itself.
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
    for folder in (package.submodule_search_locations or ()) if package is not None else ():
        for library in Path(folder, "capi").glob("onnxruntime_pybind11_state*.so"):
            dlopen(os.fsencode(library), sys.getdlopenflags())


def available_cores() -> int:
    """Return the number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
