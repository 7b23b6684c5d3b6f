"""Reading and writing vector files with pyogrio, reprojection and areas on the ellipsoid with pyproj."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyproj.exceptions import ProjError
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from geosam_es.core.topology import polygon_parts
from geosam_es.errors import OutputError, StoreError, VectorError
from geosam_es.store import StoreReader
from geosam_es.store.files import replace_files, temporary_name

from .crs import is_horizontal

__all__ = [
    "AreaMeter",
    "VectorLayer",
    "check_output",
    "parse_crs",
    "read_vector",
    "reproject",
    "store_crs",
    "write_vector",
]

_DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".geojson": "GeoJSON", ".json": "GeoJSON"}

_COMPANIONS = {
    ".gpkg": (".gpkg-wal", ".gpkg-shm"),
    ".shp": (".qix", ".sbn", ".sbx", ".cpg", ".qpj", ".shp.xml"),
}
"""Files beside an older file of the same name that would not fit the new one."""


@dataclass(frozen=True)
class VectorLayer:
    """Features as arrays.

    Attributes
    ----------
    geometries : object (N,)
        Shapely geometries; features without one are dropped.
    fields : dict of str to (N,)
        Columns of integers or booleans with NULLs are masked arrays, so that they keep their type.
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
        meta, ids, geometry, columns = pyogrio.raw.read(path, layer=layer, force_2d=True, return_fids=True)
        geometries = np.array([], dtype=object) if geometry is None else shapely.from_wkb(geometry)
        crs = pyproj.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    keep = np.array([g is not None and not shapely.is_empty(g) for g in geometries], dtype=bool)
    if not keep.any():
        raise VectorError(f"{path} has no geometries", "check the layer")
    fields = {
        str(name): _in_own_type(column[keep], np.dtype(dtype))
        for name, column, dtype in zip(meta["fields"], columns, meta["dtypes"])
    }
    return VectorLayer(geometries[keep], fields, crs, layer or "", np.asarray(ids)[keep])


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


def _in_own_type(column: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a column in the type of its field: pyogrio reads integers and booleans with NULLs as reals."""
    if dtype.kind not in "iub" or column.dtype.kind != "f":
        return column
    missing = np.isnan(column)
    return np.ma.MaskedArray(np.where(missing, 0, column).astype(dtype), missing)


def store_crs(reader: StoreReader) -> pyproj.CRS:
    """Return the CRS of a store's raster.

    Raises
    ------
    StoreError
        If PROJ cannot read it.
    """
    try:
        return pyproj.CRS.from_wkt(reader.metadata.raster.crs_wkt)
    except ProjError as error:
        raise StoreError(
            f"{reader.root} has a coordinate reference system that PROJ cannot read",
            "set it with: geosam-es info STORE --set-crs EPSG:25830",
        ) from error


def reproject(
    geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS, *, may_fail: bool = False
) -> NDArray[np.object_]:
    """Transform geometries from one CRS to another.

    Parameters
    ----------
    geometries : object (N,)
    source, target : pyproj.CRS
    may_fail : bool
        Return infinite coordinates where the transformation is not defined, instead of raising an error.

    Raises
    ------
    VectorError
        If there is no transformation, or it is not defined for some coordinates.
    """
    if source == target:
        return geometries
    failure = VectorError(
        f"Some coordinates cannot be transformed from {source.name} to {target.name}", "check the CRS"
    )
    try:
        transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    except ProjError as error:
        raise failure from error

    def project(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    projected: NDArray[np.object_] = shapely.transform(geometries, project)
    if not may_fail and not np.isfinite(shapely.get_coordinates(projected)).all():
        raise failure
    return projected


def parse_crs(text: str) -> pyproj.CRS:
    """Read a CRS as a user writes it.

    Raises
    ------
    VectorError
        If PROJ does not know it, or it has no place on a map, as a CRS of heights.
    """
    try:
        crs = pyproj.CRS.from_user_input(text)
    except ProjError:
        raise VectorError(f"{text} is not a coordinate reference system", "use a code such as EPSG:25830") from None
    if not is_horizontal(crs):
        raise VectorError(f"{text} ({crs.name}) is not a CRS for maps", "use a code such as EPSG:25830")
    return crs


def check_output(path: Path, crs: pyproj.CRS, overwrite: bool) -> None:
    """Check, before any work is done, that a vector file can be written.

    Raises
    ------
    OutputError
        If the format is unknown or cannot hold the CRS, the folder does not exist, or the file does and must not be
        replaced.
    """
    driver = _DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise OutputError(f"{path} has an unknown format", "use the extension .gpkg, .shp or .geojson")
    if driver == "GeoJSON" and crs.to_epsg() is None:
        raise OutputError(
            f"{path} cannot hold the CRS {crs.name}, which has no EPSG code",
            "choose another one with --out-crs, or write a .gpkg",
        )
    try:
        has_folder, exists = path.parent.is_dir(), path.exists()
    except OSError as error:
        raise _output_error(path, error.strerror or str(error)) from error
    if not has_folder:
        raise OutputError(f"The folder of {path} does not exist", "create it, or choose another one with -o")
    if exists and not overwrite:
        raise OutputError(f"{path} already exists", "choose another name with -o, or replace it with --overwrite")


def write_vector(
    path: Path, geometries: Sequence[BaseGeometry], fields: Mapping[str, NDArray[Any]], crs: pyproj.CRS
) -> None:
    """Write polygons, all as multipolygons, so that the layer has one type.

    The file is written to a temporary folder, read back, and moved into place if it is complete.

    Parameters
    ----------
    path : Path
        Its extension gives the format.
    geometries : sequence of Polygon or MultiPolygon
    fields : mapping of str to (N,)
        Values that are masked become NULL.
    crs : pyproj.CRS

    Raises
    ------
    OutputError
        If the file cannot be written; nothing of it is left.
    """
    multi = [shapely.MultiPolygon(polygon_parts(geometry)) for geometry in geometries]
    epsg = crs.to_epsg()
    folder = temporary_name(path.parent)
    try:
        folder.mkdir()
    except OSError as error:
        raise _output_error(path, error.strerror or str(error)) from error
    try:
        # The raw interface takes WKB, and a layer of no features as well.
        pyogrio.raw.write(
            folder / path.name,
            np.array([shapely.to_wkb(g) for g in multi], dtype=object),
            [np.ma.getdata(column) for column in fields.values()],
            list(fields),
            [np.ma.getmaskarray(column) if np.ma.isMaskedArray(column) else None for column in fields.values()],
            geometry_type="MultiPolygon",
            crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(),
            driver=_DRIVERS[path.suffix.lower()],
            encoding="UTF-8",
        )
        _check_written(folder / path.name, multi, fields)
        obsolete = [path.with_name(path.stem + ending) for ending in _COMPANIONS.get(path.suffix.lower(), ())]
        replace_files(sorted(folder.iterdir()), path.parent, obsolete)
    except OSError as error:
        raise _output_error(path, error.strerror or str(error)) from error
    # The errors of pyogrio are RuntimeErrors; text that the format cannot hold is a ValueError.
    except (RuntimeError, ValueError) as error:
        raise _output_error(path, str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_written(path: Path, geometries: Sequence[BaseGeometry], fields: Mapping[str, NDArray[Any]]) -> None:
    """Read a file back: on a full disk, GDAL truncates shapefiles and GeoJSON without an error."""
    meta, _, found, columns = pyogrio.raw.read(path)
    is_whole = len(found) == len(geometries) and all(wkb is not None for wkb in found) and meta["crs"] is not None
    numbers = [
        (np.ma.filled(np.ma.asarray(fields[str(name)], dtype=np.float64), np.nan), column)
        for name, column in zip(meta["fields"], columns)
        if column.dtype.kind in "if"
    ]
    if not is_whole or not all(np.allclose(wanted, column, equal_nan=True) for wanted, column in numbers):
        raise OSError("the file is incomplete")


def _output_error(path: Path, reason: str) -> OutputError:
    return OutputError(f"{path} cannot be written ({reason})", "check the free space and the permissions")


class AreaMeter:
    """Measures areas in square metres on the ellipsoid of a CRS.

    Parameters
    ----------
    crs : pyproj.CRS
    """

    def __init__(self, crs: pyproj.CRS) -> None:
        self._geod = crs.get_geod()
        self._crs = crs
        self._geodetic = crs.geodetic_crs

    def area_m2(self, geometry: BaseGeometry) -> float:
        """Return the area of a geometry in the CRS.

        In a CRS without an ellipsoid, such as a local grid, it is the planar area.
        """
        if geometry.is_empty:
            return 0.0
        if self._geod is None or self._geodetic is None:
            factor = self._crs.axis_info[0].unit_conversion_factor if self._crs.axis_info else 1.0
            return float(geometry.area) * factor * factor
        geographic = reproject(np.array([geometry], dtype=object), self._crs, self._geodetic)[0]
        # The sign of an area follows the direction of the ring.
        parts = [orient(part) for part in polygon_parts(geographic)]
        return sum(float(self._geod.geometry_area_perimeter(part)[0]) for part in parts)
