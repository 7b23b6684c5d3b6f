"""The one place where PyTorch is imported, so that its absence is an error a user can act on.

The other modules of this package take it from here: ``from encoder_tools.models.libraries import torch``.
"""

from __future__ import annotations

from geosam_es.errors import ModelError

__all__ = ["INSTALL_REMEDY", "torch"]

INSTALL_REMEDY = 'install what encoding needs with `pip install "geosam-es[encode]"`'

try:
    import torch
except ImportError as error:
    raise ModelError(f"PyTorch cannot be imported ({error})", INSTALL_REMEDY) from error
