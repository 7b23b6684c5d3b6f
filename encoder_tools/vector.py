"""Reading vector files with pyogrio."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import shapely
from numpy.typing import NDArray
from pyogrio.errors import GeometryError
from pyproj.exceptions import ProjError

from geosam_es.core.codes import code_text
from geosam_es.errors import VectorError

from .attributes import as_text, in_own_types
from .wkb import read_surface

__all__ = ["VectorLayer", "file_and_layer", "read_vector"]

_LAYER_NAME = "|layername="

_TABLES = (".csv", ".tsv", ".txt")

_CSV_OPTIONS = {
    "X_POSSIBLE_NAMES": "x,lon,long,longitude,easting,coord_x",
    "Y_POSSIBLE_NAMES": "y,lat,latitude,northing,coord_y",
    "AUTODETECT_TYPE": "YES",
}

_VIRTUAL_FILES = ("/vsizip/", "/vsigzip/", "/vsitar/")
"""Beginnings of the names that GDAL gives to files in archives."""

_ARCHIVES = {".zip": "/vsizip/{{{path}}}", ".gz": "/vsigzip/{path}"}

_READ_BY_DRIVER = (".shp.zip", ".gdb.zip", ".gpkg.zip")

_URI_CHARACTERS = frozenset(":!;?\n\r\t")


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
    note : str
        A warning for the user, if the file had to be interpreted or has features without a geometry.
    has_z : bool
        Whether the file has Z values; the geometries have none.
    numbers : int64 (N,), optional
        Number of each feature in the file, counted from 1, with those without a geometry.
    """

    geometries: NDArray[np.object_]
    fields: Mapping[str, NDArray[Any]]
    crs: pyproj.CRS | None
    name: str = ""
    feature_ids: NDArray[np.int64] | None = None
    note: str = ""
    has_z: bool = False
    numbers: NDArray[np.int64] | None = None

    def field(self, name: str) -> NDArray[Any] | None:
        """Return a column whose name may be in another case, as formats differ in that; None if there is none."""
        return next((column for known, column in self.fields.items() if known.lower() == name.lower()), None)

    def texts(self, name: str) -> list[str] | None:
        """Return a column as text, empty where it has no value; None if there is no such column."""
        column = self.field(name)
        if column is None:
            return None
        values = (as_text(column) if column.dtype == object else column).tolist()
        if column.dtype == np.float32:
            # The user's 3.1 is 3.0999999046325684 in double precision.
            values = [value if value.is_integer() else float(str(np.float32(value))) for value in values]
        # A missing number is NaN.
        return ["" if value is None or value != value else code_text(value) for value in values]

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
    """Read a layer of a vector file, or of a folder such as a file geodatabase.

    Parameters
    ----------
    path : Path
        ``FILE``, or ``FILE|layername=NAME`` as in QGIS where several layers have features with geometries. Tables of
        text need columns for x and y, or for WKT.

    Raises
    ------
    VectorError
        If the file does not exist, is not a vector file, does not have exactly one layer with geometries and none is
        chosen, or its CRS is unknown to PROJ.
    """
    with _vector_errors(path):
        path, wanted = file_and_layer(path)
        is_virtual = str(path).startswith(_VIRTUAL_FILES)
        if not is_virtual and not path.exists():
            raise VectorError(f"{path} does not exist", "check the path")
        if not is_virtual and not path.is_file() and not path.is_dir():
            raise VectorError(f"{path} is not a file or folder", "save the prompts in a file")
        options = _CSV_OPTIONS if path.suffix.lower() in _TABLES else {}
        with _gdal_name(path) as file, _known_types(file) as name:
            layer = _choose_layer(path, name, wanted, bool(options))
            read = partial(pyogrio.raw.read, name, layer=layer, force_2d=True, return_fids=True, **options)
            note = ""
            try:
                meta, ids, wkbs, columns = read()
            except UnicodeDecodeError:
                # Every sequence of bytes is text in this encoding.
                meta, ids, wkbs, columns = read(encoding="ISO-8859-1")
                note = f"the text in {path} is not in the encoding that the file declares, so it was read as Latin-1"
                read = partial(read, encoding="ISO-8859-1")
            fields = in_own_types(read, meta, ids, columns)
        geometries = np.array([], dtype=object) if wkbs is None else _from_wkb(wkbs)
    keep = ~(shapely.is_missing(geometries) | shapely.is_empty(geometries))
    if not keep.any():
        raise VectorError(f"{path} has no geometries", "check the layer")
    lost = int((~keep).sum())
    if lost:
        without = f"features of {path} without a geometry are left out ({lost})"
        note = "; ".join(filter(None, (note, without)))
    kept = {name: column[keep] for name, column in fields.items()}
    crs = _crs(path, meta["crs"])
    has_z = str(meta["geometry_type"]).endswith(" Z")
    return VectorLayer(
        geometries[keep], kept, crs, layer or "", np.asarray(ids)[keep], note, has_z, 1 + np.flatnonzero(keep)
    )


def file_and_layer(path: Path) -> tuple[Path, str | None]:
    """Split ``FILE|layername=NAME``, unless a file has that name."""
    file, separator, layer = str(path).partition(_LAYER_NAME)
    return (Path(file), layer) if separator and not path.exists() else (path, None)


def _choose_layer(path: Path, name: str, wanted: str | None, is_table: bool) -> str | None:
    layers = [str(known) for known, kind in pyogrio.list_layers(name) if kind is not None or is_table]
    if wanted is not None:
        if wanted not in layers:
            raise VectorError(f"{path} has no layer {wanted}", f"its layers are: {', '.join(layers) or 'none'}")
        return wanted
    if len(layers) > 1:
        # GPX files, for instance, always have five layers.
        layers = [
            known
            for known in layers
            if pyogrio.read_info(name, layer=known, force_feature_count=True)["features"] or len(layers) == 1
        ]
    if len(layers) > 1:
        raise VectorError(
            f"{path} has several layers ({', '.join(layers)})", f"choose one, as in {path.name}{_LAYER_NAME}{layers[0]}"
        )
    return layers[0] if layers else None


def _from_wkb(wkbs: NDArray[np.object_]) -> NDArray[np.object_]:
    geometries: NDArray[np.object_] = shapely.from_wkb(wkbs, on_invalid="ignore")
    for index in np.flatnonzero(shapely.is_missing(geometries)):
        geometries[index] = None if wkbs[index] is None else read_surface(wkbs[index])
    return geometries


def _crs(path: Path, text: str | None) -> pyproj.CRS | None:
    try:
        return pyproj.CRS.from_user_input(text) if text else None
    except ProjError as error:
        raise VectorError(
            f"{path} has a coordinate reference system that PROJ does not know", "set it again, for instance in QGIS"
        ) from error


@contextmanager
def _gdal_name(path: Path) -> Iterator[str]:
    """Give a name that GDAL takes for this file: pyogrio takes some characters for parts of a URI."""
    suffix = path.suffix.lower()
    if suffix in _ARCHIVES and path.is_file() and not path.name.lower().endswith(_READ_BY_DRIVER):
        yield _ARCHIVES[suffix].format(path=path.absolute())
    elif not _URI_CHARACTERS.intersection(str(path)[len(path.drive) :]):
        yield str(path)
    else:
        with tempfile.TemporaryDirectory(prefix="geosam-es-") as folder:
            for file in path.parent.iterdir():
                if file == path or file.stem == path.stem:
                    _link(Path(folder) / f"prompts{file.suffix}", file.absolute())
            yield str(Path(folder) / f"prompts{path.suffix}")


def _link(link: Path, target: Path) -> None:
    """Make a link, or a copy where links are not allowed, as on Windows."""
    try:
        link.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        if target.is_dir():
            shutil.copytree(target, link)
        else:
            shutil.copyfile(target, link)


@contextmanager
def _known_types(name: str) -> Iterator[str]:
    """Give a virtual file where a layer has a type that pyogrio does not know: a TIN or a polyhedral surface."""
    try:
        pyogrio.list_layers(name)
    except GeometryError:
        layers = _layers_by_sql(name)
    else:
        yield name
        return
    with tempfile.TemporaryDirectory(prefix="geosam-es-") as folder:
        parts = (
            f'<OGRVRTLayer name="{escape(layer)}"><SrcDataSource>{escape(str(Path(name).absolute()))}</SrcDataSource>'
            "<GeometryType>wkbUnknown</GeometryType></OGRVRTLayer>"
            for layer in layers
        )
        virtual = Path(folder) / "prompts.vrt"
        virtual.write_text(f"<OGRVRTDataSource>{''.join(parts)}</OGRVRTDataSource>", encoding="utf-8")
        yield str(virtual)


def _layers_by_sql(name: str) -> list[str]:
    """Return the layers of a GeoPackage; other formats with such types have one, named like the file."""
    if not name.lower().endswith(".gpkg"):
        return [Path(name).stem]
    _, _, _, (names,) = pyogrio.raw.read(name, sql="SELECT table_name FROM gpkg_geometry_columns")
    return [str(layer) for layer in names]


@contextmanager
def _vector_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except VectorError:
        raise
    except OSError as error:
        raise VectorError(f"{path} cannot be read ({error.strerror or error})", "check the path") from error
    # The errors of pyogrio are RuntimeErrors, a path that is not text is a ValueError; a file without layers gives
    # an IndexError.
    except (RuntimeError, ValueError, IndexError, shapely.GEOSException) as error:
        raise VectorError(f"{path} is not a vector file that GDAL can read", "check the file") from error
