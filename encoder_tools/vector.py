"""Reading prompts and areas of interest, and writing polygons, with pyogrio; areas on the ellipsoid, with pyproj."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FeatureError, FieldError, GeometryError
from pyproj.exceptions import CRSError
from shapely.geometry.polygon import orient

from geosam_es.core.topology import polygon_parts
from geosam_es.errors import OutputError, VectorError

__all__ = ["AreaMeter", "VectorLayer", "check_output", "parse_crs", "read_vector", "reproject", "write_vector"]

_DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".geojson": "GeoJSON", ".json": "GeoJSON"}

_COMPANIONS = {
    ".gpkg": (".gpkg-wal", ".gpkg-shm"),
    ".shp": (".qix", ".sbn", ".sbx", ".cpg", ".qpj", ".shp.xml"),
}
"""What may lie beside a file, belongs to its old content, and would spoil the new."""


@dataclass(frozen=True)
class VectorLayer:
    """Features as arrays.

    Attributes
    ----------
    geometries : object (N,)
        Shapely geometries; features without one are left out.
    fields : dict of str to (N,)
        By name in lower case, as formats differ in the case they keep.
    crs : pyproj.CRS, optional
    name : str
        Of the layer in its file.
    feature_ids : int64 (N,), optional
        As the file counts its features.
    """

    geometries: NDArray[np.object_]
    fields: Mapping[str, NDArray[Any]]
    crs: pyproj.CRS | None
    name: str = ""
    feature_ids: NDArray[np.int64] | None = None


def read_vector(path: Path) -> VectorLayer:
    """Read the one layer with geometries of a vector file.

    Raises
    ------
    VectorError
        If it is not there, not a vector file, has no geometries or several layers of them.
    """
    if not path.exists():
        raise VectorError(f"{path} is not there", "check the path")
    try:
        layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        if len(layers) > 1:
            raise VectorError(
                f"{path} has several layers ({', '.join(layers)})", "save the one that is meant to a file of its own"
            )
        layer = layers[0] if layers else None
        meta, ids, geometry, columns = pyogrio.raw.read(path, layer=layer, force_2d=True, return_fids=True)
        geometries = np.array([], dtype=object) if geometry is None else shapely.from_wkb(geometry)
        crs = pyproj.CRS.from_user_input(meta["crs"]) if meta["crs"] else None
    except (DataSourceError, DataLayerError, GeometryError, CRSError, shapely.GEOSException) as error:
        raise VectorError(f"{path} is not a vector file that GDAL can read", "check the file") from error
    keep = np.array([g is not None and not shapely.is_empty(g) for g in geometries], dtype=bool)
    if not keep.any():
        raise VectorError(f"{path} has no geometries", "check the layer")
    fields = {str(name).lower(): column[keep] for name, column in zip(meta["fields"], columns)}
    return VectorLayer(geometries[keep], fields, crs, layer or "", np.asarray(ids)[keep])


def reproject(
    geometries: NDArray[np.object_], source: pyproj.CRS, target: pyproj.CRS, *, may_fail: bool = False
) -> NDArray[np.object_]:
    """Bring geometries from one CRS to another.

    Parameters
    ----------
    geometries : object (N,)
    source, target : pyproj.CRS
    may_fail : bool
        Whether coordinates without a place in the target become infinite.

    Raises
    ------
    VectorError
        If some coordinates have no place in the target, and they may not fail.
    """
    if source == target:
        return geometries
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)

    def project(xy: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack(transformer.transform(xy[:, 0], xy[:, 1]))

    projected: NDArray[np.object_] = shapely.transform(geometries, project)
    if not may_fail and not np.isfinite(shapely.get_coordinates(projected)).all():
        raise VectorError(f"Some coordinates cannot be brought from {source.name} to {target.name}", "check their CRS")
    return projected


def parse_crs(text: str) -> pyproj.CRS:
    """Read a CRS as a user writes it.

    Raises
    ------
    VectorError
        If PROJ does not understand it.
    """
    try:
        return pyproj.CRS.from_user_input(text)
    except CRSError:
        raise VectorError(f"{text} is not a coordinate reference system", "use a code as EPSG:25830") from None


def check_output(path: Path, crs: pyproj.CRS, overwrite: bool) -> None:
    """See, before any work is done, that a vector file can be written.

    Raises
    ------
    OutputError
        If the format is unknown or cannot hold the CRS, the folder is not there, or the file is and may not be
        replaced.
    """
    driver = _DRIVERS.get(path.suffix.lower())
    if driver is None:
        raise OutputError(f"{path} has no known format", "name it .gpkg, .shp or .geojson")
    if driver == "GeoJSON" and crs.to_epsg() is None:
        raise OutputError(
            f"{path} cannot hold the CRS {crs.name}, which has no EPSG code",
            "give another with --out-crs, or write a .gpkg",
        )
    if not path.parent.is_dir():
        raise OutputError(f"The folder of {path} is not there", "make it, or choose another with -o")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} is there already", "choose another name with -o, or replace it with --overwrite")


def write_vector(
    path: Path, geometries: Sequence[shapely.Geometry], fields: Mapping[str, NDArray[Any]], crs: pyproj.CRS
) -> None:
    """Write polygons, all as multipolygons, so that the layer has one type.

    The file is made in a folder of its own, read again, and moved when it is whole.

    Parameters
    ----------
    path : Path
        Its suffix names the format.
    geometries : sequence of Polygon or MultiPolygon
    fields : mapping of str to (N,)
    crs : pyproj.CRS

    Raises
    ------
    OutputError
        If the file cannot be written; nothing of it is left.
    """
    multi = [g if g.geom_type == "MultiPolygon" else shapely.MultiPolygon([g]) for g in geometries]
    epsg = crs.to_epsg()
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{path.stem}.", dir=path.parent))
    except OSError as error:
        raise _output_error(path, error.strerror or str(error)) from error
    try:
        # The raw interface takes WKB, and a layer of no features as well.
        pyogrio.raw.write(
            folder / path.name,
            np.array([shapely.to_wkb(g) for g in multi], dtype=object),
            list(fields.values()),
            list(fields),
            geometry_type="MultiPolygon",
            crs=f"EPSG:{epsg}" if epsg else crs.to_wkt(),
            driver=_DRIVERS[path.suffix.lower()],
            encoding="UTF-8",
        )
        _check_written(folder / path.name, multi, fields)
        for ending in _COMPANIONS.get(path.suffix.lower(), ()):
            path.with_name(path.stem + ending).unlink(missing_ok=True)
        for made in sorted(folder.iterdir()):
            made.replace(path.parent / made.name)
    except OSError as error:
        raise _output_error(path, error.strerror or str(error)) from error
    except (DataSourceError, DataLayerError, FieldError, GeometryError, FeatureError, RuntimeError) as error:
        raise _output_error(path, str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_written(path: Path, geometries: Sequence[shapely.Geometry], fields: Mapping[str, NDArray[Any]]) -> None:
    """Read a file again: on a full disk GDAL cuts shapefiles and GeoJSON without a word."""
    meta, _, found, columns = pyogrio.raw.read(path)
    is_whole = len(found) == len(geometries) and all(wkb is not None for wkb in found) and meta["crs"] is not None
    numbers = [
        (fields[str(name)], column) for name, column in zip(meta["fields"], columns) if column.dtype.kind in "if"
    ]
    if not is_whole or not all(np.allclose(wanted, column) for wanted, column in numbers):
        raise OSError("what was written is not whole")


def _output_error(path: Path, reason: str) -> OutputError:
    return OutputError(f"{path} cannot be written ({reason})", "check the space left and the permissions")


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

    def area_m2(self, geometry: shapely.Geometry) -> float:
        """Return the area of a geometry in the CRS.

        A CRS without an ellipsoid, such as a local grid, is measured in its plane.
        """
        if geometry.is_empty:
            return 0.0
        if self._geod is None or self._geodetic is None:
            factor = self._crs.axis_info[0].unit_conversion_factor if self._crs.axis_info else 1.0
            return float(geometry.area) * factor * factor
        geographic = reproject(np.array([geometry], dtype=object), self._crs, self._geodetic)[0]
        # The sign of an area follows the ring's direction, and holes must run against the exterior.
        parts = [orient(part) for part in polygon_parts(geographic)]
        return sum(float(self._geod.geometry_area_perimeter(part)[0]) for part in parts)
