"""Writing polygons to vector files with pyogrio."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.topology import polygon_parts
from geosam_es.errors import OutputError
from geosam_es.store.files import replace_files, temporary_name

__all__ = ["check_output", "write_vector"]

_DRIVERS = {".gpkg": "GPKG", ".shp": "ESRI Shapefile", ".geojson": "GeoJSON", ".json": "GeoJSON"}

_COMPANIONS = {
    ".gpkg": (".gpkg-wal", ".gpkg-shm"),
    ".shp": (".qix", ".sbn", ".sbx", ".cpg", ".qpj", ".shp.xml"),
}
"""Files beside an older file of the same name that would not fit the new one."""


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
