"""Imports of PyTorch and onnx that tell users what to install if one is missing.

Other modules import PyTorch with ``from encoder_tools.models.libraries import torch``.
"""

from __future__ import annotations

from typing import Any

from geosam_es.errors import ModelError

__all__ = ["INSTALL_REMEDY", "import_onnx", "torch"]

INSTALL_REMEDY = 'install what encoding needs with `pip install "geosam-es[encode]"`'

try:
    import torch
except Exception as error:  # builds for another system or NumPy fail in many ways
    raise ModelError(f"PyTorch cannot be imported ({error})", INSTALL_REMEDY) from error


def import_onnx() -> Any:
    """Return the onnx package.

    Raises
    ------
    ModelError
        If it is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(f"onnx cannot be imported ({error})", INSTALL_REMEDY) from error
    return onnx
