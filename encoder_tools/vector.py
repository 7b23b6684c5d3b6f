"""Reading vector files with pyogrio."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray

from geosam_es.errors import VectorError

from .attributes import in_own_types

__all__ = ["VectorLayer", "read_vector"]


@dataclass(frozen=True)
class VectorLayer:
    """Features as arrays.

    Attributes
    ----------
    geometries : object (N,)
        Shapely geometries; features without one are dropped.
    fields : dict of str to (N,)
        Columns of integers or booleans with NULLs are masked arrays, so that they keep their type. Columns of times
        with a time zone have ``datetime`` objects.
    crs : pyproj.CRS, optional
    name : str
        Name of the layer in its file.
    feature_ids : int64 (N,), optional
        GDAL's feature ids.
    """

    geometries: NDArray[np.object_]
    fields: Mapping[str, NDArray[Any]]
    crs: pyproj.CRS | None
    name: str = ""
    feature_ids: NDArray[np.int64] | None = None

    def field(self, name: str) -> NDArray[Any] | None:
        """Return a column whose name may be in another case, as formats differ in that; None if there is none."""
        return next((column for known, column in self.fields.items() if known.lower() == name.lower()), None)

    @property
    def sha256(self) -> str:
        """Hash of geometries, attributes and CRS, which is the same for the same content in another format."""
        digest = hashlib.sha256((self.crs.to_wkt() if self.crs is not None else "").encode())
        for wkb in shapely.to_wkb(self.geometries):
            digest.update(wkb)
        for name, column in self.fields.items():
            digest.update(repr((name, column.tolist())).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def read_vector(path: Path) -> VectorLayer:
    """Read the only layer with geometries of a vector file, or of a folder such as a file geodatabase.

    Raises
    ------
    VectorError
        If the file does not exist, is not a vector file, or does not have exactly one layer with geometries.
    """
    with _vector_errors(path):
        if not path.exists():
            raise VectorError(f"{path} does not exist", "check the path")
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) > 1:
            raise VectorError(
                f"{path} has several layers ({', '.join(layers)})", "save the one you need to a file of its own"
            )
        layer = layers[0] if layers else None
        read = partial(pyogrio.raw.read, path, layer=layer, force_2d=True, return_fids=True)
        meta, ids, geometry, columns = read()
        fields = in_own_types(read, meta, ids, columns)
        geometries = np.array([], dtype=object) if geometry is None else shapely.from_wkb(geometry)
        crs = pyproj.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    keep = np.array([g is not None and not shapely.is_empty(g) for g in geometries], dtype=bool)
    if not keep.any():
        raise VectorError(f"{path} has no geometries", "check the layer")
    kept = {name: column[keep] for name, column in fields.items()}
    return VectorLayer(geometries[keep], kept, crs, layer or "", np.asarray(ids)[keep])


@contextmanager
def _vector_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except VectorError:
        raise
    except OSError as error:
        raise VectorError(f"{path} cannot be read ({error.strerror or error})", "check the path") from error
    except UnicodeDecodeError as error:
        raise VectorError(
            f"{path} contains text in another encoding than it declares", "save it in UTF-8, or correct its .cpg file"
        ) from error
    # The errors of pyogrio and pyproj are RuntimeErrors, a path that is not text is a ValueError.
    except (RuntimeError, ValueError, shapely.GEOSException) as error:
        raise VectorError(f"{path} is not a vector file that GDAL can read", "check the file") from error
