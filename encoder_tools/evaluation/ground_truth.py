"""Reference polygons, transformed to the pixels of a store's raster."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from geosam_es.core.prompts import Bounds, Prompts
from geosam_es.core.topology import merge, polygon_parts
from geosam_es.errors import VectorError
from geosam_es.store import StoreReader

from ..crs import ASSIGN_CRS, check_degrees, prompts_to_raster, store_crs
from ..vector import VectorLayer, read_vector
from .kept_prompts import KeptPrompts, kept_prompts

__all__ = ["FEW_OBJECTS", "Located", "Truth", "TruthObject", "locate", "read_truth"]

FEW_OBJECTS = 5
"""A mean over fewer objects says little about others."""

MIN_AREA_PIXELS = 16.0
"""Smaller objects, or smaller visible parts of an object, are not used."""

_LEAST_BOX_FILL = 0.25
"""Least share of the area of a kept box that its object fills."""

_LEAST_SHARE = 0.25
"""Least share of an object's area that must be inside the raster."""

_OUTSIDE = "outside the raster"
_CUT = "mostly outside the raster"
_TOO_SMALL = f"smaller than {MIN_AREA_PIXELS:.0f} pixels"


@dataclass(frozen=True)
class Truth:
    """Valid polygons in the CRS of their layer.

    Attributes
    ----------
    path : Path
    geometries : object (N,)
    object_ids : tuple of str
        Number of each feature in its file, counted from 1.
    classes : tuple of str
        Empty strings if no class field was given.
    kept : tuple of KeptPrompts or None
        The user's prompts, where the plugin kept them.
    crs : pyproj.CRS
    sha256 : str
        Hash of the whole layer and its kept prompts.
    """

    path: Path
    geometries: NDArray[np.object_]
    object_ids: tuple[str, ...]
    classes: tuple[str, ...]
    kept: tuple[KeptPrompts | None, ...]
    crs: pyproj.CRS
    sha256: str


@dataclass(frozen=True)
class TruthObject:
    """One object on a raster.

    Attributes
    ----------
    object_id : str
    geometry : Polygon or MultiPolygon
        In native pixels, clipped to the raster.
    class_name : str
    prompts : Prompts, optional
        The user's prompts for it, in native pixels.
    """

    object_id: str
    geometry: BaseGeometry
    class_name: str = ""
    prompts: Prompts | None = None


@dataclass
class Located:
    """The objects on each store.

    Attributes
    ----------
    objects : list of list of TruthObject
        One list per store.
    left_out : dict of str to str
        Objects on no store, and why.
    """

    objects: list[list[TruthObject]]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of objects on all stores."""
        return sum(len(found) for found in self.objects)


def read_truth(path: Path, class_field: str | None = None, class_value: str | None = None) -> Truth:
    """Read reference polygons.

    Parameters
    ----------
    path : Path
        A vector file.
    class_field : str, optional
        Field with the class of each object.
    class_value : str, optional
        Read only objects of this class.

    Returns
    -------
    Truth
        Invalid polygons are made valid.

    Raises
    ------
    VectorError
        If the file cannot be read, has no CRS, has other geometries than polygons, lacks the field, or has no object of
        the class.
    """
    layer = read_vector(path)
    kinds = sorted({str(g.geom_type) for g in layer.geometries} - {"Polygon", "MultiPolygon"})
    if kinds:
        raise VectorError(f"{path} has a {kinds[0]}, but polygons are needed", "use the outlines of the objects")
    if layer.crs is None:
        raise VectorError(f"{path} has no coordinate reference system", ASSIGN_CRS)
    check_degrees(layer.geometries, layer.crs, str(path), ASSIGN_CRS)
    classes = _classes(layer, path, class_field)
    keep = np.array([class_value is None or name == class_value for name in classes])
    if not keep.any():
        known = ", ".join(sorted(set(classes))[:10])
        raise VectorError(f"{path} has no object with {class_field} = {class_value}", f"choose one of: {known}")
    kept = kept_prompts(path, layer)
    chosen = np.flatnonzero(keep)
    valid = shapely.make_valid(layer.geometries[keep])
    return Truth(
        path=path,
        geometries=np.array([merge(polygon_parts(geometry)) for geometry in valid], dtype=object),
        object_ids=tuple(str(index + 1 if layer.numbers is None else layer.numbers[index]) for index in chosen),
        classes=tuple(classes[index] for index in chosen),
        kept=tuple(kept[index] for index in chosen),
        crs=layer.crs,
        sha256=hashlib.sha256(f"{layer.sha256} {kept}".encode("utf-8", "surrogatepass")).hexdigest(),
    )


def _classes(layer: VectorLayer, path: Path, class_field: str | None) -> list[str]:
    if class_field is None:
        return [""] * len(layer.geometries)
    texts = layer.texts(class_field)
    if texts is None:
        known = ", ".join(layer.fields) or "none"
        raise VectorError(f"{path} has no field {class_field}", f"its fields are: {known}")
    return texts


def locate(truth: Truth, readers: Sequence[StoreReader]) -> Located:
    """Assign each object to the store that shows most of it.

    Parameters
    ----------
    truth : Truth
    readers : sequence of StoreReader

    Returns
    -------
    Located

    Raises
    ------
    VectorError
        If no object is on any store.
    """
    shown = [_on_raster(truth, reader) for reader in readers]
    # Shares of the object can be compared, while pixel areas differ between rasters.
    shares = np.array([[0.0 if whole is None else part.area / whole for part, whole in row] for row in shown])
    found = Located([[] for _ in readers])
    for index, object_id in enumerate(truth.object_ids):
        best = int(np.argmax(shares[:, index]))
        geometry = shown[best][index][0]
        if shares[best, index] <= 0:
            found.left_out[object_id] = _OUTSIDE
        elif shares[best, index] < _LEAST_SHARE:
            found.left_out[object_id] = _CUT
        elif geometry.area < MIN_AREA_PIXELS:
            found.left_out[object_id] = _TOO_SMALL
        else:
            prompts = _native_prompts(truth.kept[index], readers[best], geometry)
            found.objects[best].append(TruthObject(object_id, geometry, truth.classes[index], prompts))
    if not found.count:
        raise VectorError(
            f"None of the {len(truth.object_ids)} polygons of {truth.path} is on the raster of"
            f" {', '.join(str(reader.root) for reader in readers[:3])} ({next(iter(found.left_out.values()))})",
            "check that both are of the same place, and the CRS of the layer",
        )
    return found


def _on_raster(truth: Truth, reader: StoreReader) -> list[tuple[BaseGeometry, float | None]]:
    """Return the visible part of each object in native pixels, and the area of the whole object."""
    raster = reader.metadata.raster
    crs = store_crs(reader)
    inverse = raster.transform.inverse()
    frame = shapely.box(*reader.pyramid.bounds)
    shown: list[tuple[BaseGeometry, float | None]] = []
    # Objects that cannot be transformed to the raster's CRS are outside the raster.
    extent = Bounds(*raster.transform.apply_geometry(shapely.box(0, 0, raster.width, raster.height)).bounds)
    for geometry in prompts_to_raster(truth.geometries, truth.crs, crs, extent):
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            shown.append((shapely.Polygon(), None))
            continue
        native = shapely.make_valid(inverse.apply_geometry(geometry))
        shown.append((merge(polygon_parts(native.intersection(frame))), native.area or None))
    return shown


def _native_prompts(kept: KeptPrompts | None, reader: StoreReader, geometry: BaseGeometry) -> Prompts | None:
    """Return kept prompts in native pixels, None if they belong to another raster or to another part of the object."""
    raster = reader.metadata.raster
    if kept is None or kept.raster not in ("", raster.file_name):
        return None
    prompts = kept.prompts.transformed(raster.transform.inverse().apply)
    inside = prompts.within(reader.pyramid.bounds)
    if len(inside.points) != len(prompts.points) or (prompts.box is not None and inside.box is None):
        return None
    # The parts of an accepted object may be separate features with the same prompts.
    positives = [shapely.Point(point.x, point.y) for point in inside.points if point.positive]
    if positives and not any(geometry.covers(point) for point in positives):
        return None
    box = inside.box
    if box is not None and shapely.box(*geometry.bounds).area < _LEAST_BOX_FILL * box.width * box.height:
        return None
    return inside
