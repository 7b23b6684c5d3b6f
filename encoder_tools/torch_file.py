"""One tensor of a PyTorch file, read without running anything that the file names.

Such a file is a ZIP archive with a pickle, which says where the values of a tensor are, and the values as raw numbers.
"""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["read_tensor"]

_MOST_PICKLE_BYTES = 1 << 20


class _FloatStorage:
    """Stands for PyTorch's class of float32."""


class _Unpickler(pickle.Unpickler):
    """Knows the three names that a file of tensors needs, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name."""
        known = {
            "torch._utils._rebuild_tensor_v2": lambda *where: where[:4],
            "torch.FloatStorage": _FloatStorage,
            "collections.OrderedDict": OrderedDict,
        }
        if f"{module}.{name}" not in known:
            raise ValueError(f"it names {module}.{name}, which is not run")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> Any:
        """Return the name of a storage."""
        kind, storage, key, *_ = pid
        if kind != "storage" or storage is not _FloatStorage:
            raise ValueError("it has values that are not float32")
        return key


def read_tensor(path: Path, *keys: str | int) -> NDArray[np.float32]:
    """Return a tensor of the dictionary that a file holds, and of those inside it.

    Raises
    ------
    ValueError
        If there is none, or the file is damaged or names anything but tensors of float32.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            if archive.getinfo(member).file_size > _MOST_PICKLE_BYTES:
                raise ValueError("its data.pkl is too large")
            with archive.open(member) as file:
                found = _Unpickler(file).load()
            for key in keys:
                found = found[key]
            storage, offset, shape, stride = found
            if offset != 0 or list(stride) != [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]:
                raise ValueError("its values are not contiguous")
            name = f"{member[: -len('data.pkl')]}data/{storage}"
            if archive.getinfo(name).file_size != 4 * math.prod(shape):
                raise ValueError("its values are incomplete")
            return np.frombuffer(archive.read(name), "<f4").reshape(shape)
    except Exception as error:  # which error pickle and zipfile raise depends on the content of the file
        raise ValueError(getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
