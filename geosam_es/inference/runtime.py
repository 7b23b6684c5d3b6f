"""onnxruntime sessions, made and run in one way, with errors a user can read."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

__all__ = ["OnnxGraph", "available_cores", "load_onnxruntime", "new_session"]


class OnnxGraph:
    """One ONNX file, loaded.

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
        If onnxruntime is not installed, or cannot load the file.
    """

    def __init__(self, path: Path, threads: int | None = None, *, spinning: bool = False) -> None:
        self.path = path
        if not path.is_file():
            load_onnxruntime()
            raise ModelError("{path} is not there", "copy the store or the model again", path=path)
        try:
            self._session = new_session(os.fspath(path), threads, spinning=spinning)
        except ModelError:
            raise
        # onnxruntime raises classes of its own, which share no public base.
        except Exception as error:
            raise ModelError(
                "{path} is not an ONNX model that onnxruntime {version} can load",
                "copy or export the model again, or update onnxruntime",
                path=path,
                version=load_onnxruntime().__version__,
            ) from error
        self.inputs = {item.name: item for item in self._session.get_inputs()}
        self.optional_inputs = {item.name: item for item in self._session.get_overridable_initializers()}
        self.outputs = {item.name: item for item in self._session.get_outputs()}

    def run(
        self, feeds: dict[str, NDArray[Any]], outputs: Sequence[str] | None = None
    ) -> dict[str, NDArray[np.float32]]:
        """Run the graph.

        Parameters
        ----------
        feeds : dict of str to array
            By input name.
        outputs : sequence of str, optional
            Names wanted; all by default.

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
                "{name} failed ({reason})", "use a store and a decoder of one model", name=self.path.name, reason=reason
            ) from error


def new_session(model: str | bytes, threads: int | None = None, *, arena: bool = True, spinning: bool = False) -> Any:
    """Load a graph with the options that all graphs here have.

    Parameters
    ----------
    model : str or bytes
        Path of an ONNX file, or its content.
    threads : int, optional
        Threads within an operator; by default one for each core.
    arena : bool
        Whether the session keeps the memory of its runs for the next one.
    spinning : bool
        Whether threads wait actively for each other while the graph runs. That saves time where there are many small
        operators, and is wasted on few large ones.

    Returns
    -------
    onnxruntime.InferenceSession

    Raises
    ------
    ModelError
        If onnxruntime is not installed.
    Exception
        Of onnxruntime's own, if it cannot load the graph.
    """
    onnxruntime = load_onnxruntime()
    # Some builds report how they are used; nothing here may leave the machine.
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    # Idle threads that spin take the core that QGIS draws with.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def load_onnxruntime() -> Any:
    """Import onnxruntime, with other threads running meanwhile for as long as that can be had.

    An import holds Python's lock, and with it whatever window the process has. More than half of the time goes to a
    library of 20 MiB where it is not in the file cache yet: that is read before, without the lock.

    Returns
    -------
    module

    Raises
    ------
    ModelError
        If it is not installed.
    """
    # Imported here, so that the session and the store work where onnxruntime is not installed yet.
    try:
        if "onnxruntime" not in sys.modules and os.name == "posix":
            # What cannot be loaded the import tells.
            with suppress(OSError, AttributeError):
                _load_library()
        import onnxruntime
    except ImportError as error:
        raise ModelError("onnxruntime is not installed", "install it with: pip install onnxruntime") from error
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
