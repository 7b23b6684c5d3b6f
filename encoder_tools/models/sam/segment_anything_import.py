"""Import of segment_anything without torchvision, which it imports for image resizing and automatic masks alone.

GeoSAM-ES uses neither. torchvision is not required because the builds on PyPI do not import beside a CPU build of
PyTorch (``operator torchvision::nms does not exist``).
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, NoReturn

from geosam_es.errors import ModelError

from ..libraries import INSTALL_REMEDY

__all__ = ["import_segment_anything"]

_MODULES = (
    "torchvision",
    "torchvision.ops",
    "torchvision.ops.boxes",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)
"""The modules of torchvision that segment_anything 1.0 imports."""


class _Placeholder(ModuleType):
    """A module whose functions exist and fail when they are called."""

    __path__: list[str] = []  # noqa: RUF012  a package, whose submodules are found in sys.modules

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: object, **__: object) -> NoReturn:
            raise ModelError(f"{self.__name__}.{name} needs torchvision", "install the torchvision for this PyTorch")

        return missing


def import_segment_anything() -> ModuleType:
    """Import segment_anything, with placeholders for torchvision if that is missing or does not import.

    The placeholders leave `sys.modules` again: other libraries, such as PyTorch's ONNX exporter, look for torchvision
    there.

    Raises
    ------
    ModelError
        If segment_anything is not installed.
    """
    if "segment_anything" in sys.modules:
        return sys.modules["segment_anything"]
    use_placeholders = not _torchvision_works()
    if use_placeholders:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules.update({name: _Placeholder(name) for name in _MODULES})
    try:
        return importlib.import_module("segment_anything")
    except ImportError as error:
        raise ModelError(f"segment_anything cannot be imported ({error})", INSTALL_REMEDY) from error
    finally:
        if use_placeholders:
            for name in _MODULES:
                sys.modules.pop(name, None)


def _torchvision_works() -> bool:
    try:
        for name in _MODULES:
            importlib.import_module(name)
    except Exception:  # builds for another PyTorch fail in many ways: RuntimeError, OSError, AttributeError
        return False
    return True
