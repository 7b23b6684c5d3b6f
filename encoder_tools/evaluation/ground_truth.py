"""Polygons drawn by people, brought to the pixels of a store's raster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

from geosam_es.core.prompts import Prompts
from geosam_es.core.topology import merge, polygon_parts
from geosam_es.errors import VectorError
from geosam_es.store import StoreReader

from ..vector import VectorLayer, read_vector, reproject
from .kept_prompts import KeptPrompts, kept_prompts

__all__ = ["FEW_OBJECTS", "Located", "Truth", "TruthObject", "locate", "read_truth"]

FEW_OBJECTS = 5
"""Objects below which nothing can be learnt, and a mean says little."""

MIN_AREA_PIXELS = 16.0
"""Smaller objects, or what is left of one at the raster's edge, hold no click."""

_LEAST_BOX_FILL = 0.25
"""Part of a kept box that its object takes at least."""

_LEAST_SHARE = 0.25
"""Part of an object that a raster must show: a sliver at its edge is no object."""

_OUTSIDE = "outside the raster"
_CUT = "mostly outside the raster"
_TOO_SMALL = f"smaller than {MIN_AREA_PIXELS:.0f} pixels"


@dataclass(frozen=True)
class Truth:
    """A layer of polygons, valid, in its own CRS.

    Attributes
    ----------
    path : Path
    geometries : object (N,)
    object_ids : tuple of str
        Place of each feature in its file, counted from 1.
    classes : tuple of str
        Empty where no field was named.
    kept : tuple of KeptPrompts or None
        How the user got each, where the plugin kept it.
    crs : pyproj.CRS
    """

    path: Path
    geometries: NDArray[np.object_]
    object_ids: tuple[str, ...]
    classes: tuple[str, ...]
    kept: tuple[KeptPrompts | None, ...]
    crs: pyproj.CRS


@dataclass(frozen=True)
class TruthObject:
    """One object of a raster.

    Attributes
    ----------
    object_id : str
    geometry : Polygon or MultiPolygon
        In the raster's native pixels, clipped to the raster.
    class_name : str
    prompts : Prompts, optional
        Those it was made with, in native pixels.
    """

    object_id: str
    geometry: shapely.Geometry
    class_name: str = ""
    prompts: Prompts | None = None


@dataclass
class Located:
    """The objects of each store, and those that are on none.

    Attributes
    ----------
    objects : list of list of TruthObject
        One list a store, in the order of the stores.
    left_out : dict of str to str
        Object, and why.
    """

    objects: list[list[TruthObject]]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Objects on all the stores."""
        return sum(len(found) for found in self.objects)


def read_truth(path: Path, class_field: str | None = None, class_value: str | None = None) -> Truth:
    """Read polygons of the truth.

    Parameters
    ----------
    path : Path
        A vector file.
    class_field : str, optional
        Field with the class of each object.
    class_value : str, optional
        Only objects of this class are taken.

    Returns
    -------
    Truth
        Invalid polygons are made valid.

    Raises
    ------
    VectorError
        If the file cannot be read or has no CRS, holds anything but polygons, lacks the field, or has nothing of the
        class.
    """
    layer = read_vector(path)
    kinds = sorted({str(g.geom_type) for g in layer.geometries} - {"Polygon", "MultiPolygon"})
    if kinds:
        raise VectorError(f"{path} has a {kinds[0]} where polygons are needed", "give the outlines of the objects")
    if layer.crs is None:
        raise VectorError(f"{path} has no coordinate reference system", "set it in QGIS: Layer CRS, Set Layer CRS")
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
        object_ids=tuple(str(index + 1) for index in chosen),
        classes=tuple(classes[index] for index in chosen),
        kept=tuple(kept[index] for index in chosen),
        crs=layer.crs,
    )


def _classes(layer: VectorLayer, path: Path, class_field: str | None) -> list[str]:
    if class_field is None:
        return [""] * len(layer.geometries)
    if class_field.lower() not in layer.fields:
        known = ", ".join(layer.fields) or "none"
        raise VectorError(f"{path} has no field {class_field}", f"its fields are: {known}")
    return [_text(value) for value in layer.fields[class_field.lower()]]


def _text(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:g}"
    return "" if value is None else str(value)


def locate(truth: Truth, readers: Sequence[StoreReader]) -> Located:
    """Give each object to the store that shows most of it.

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
        If not a single object lies on any store.
    """
    shown = [_on_raster(truth, reader) for reader in readers]
    # Compared as shares of the object, because the pixels of two rasters differ in size.
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
            f" {', '.join(str(reader.root) for reader in readers[:3])}: {next(iter(found.left_out.values()))}",
            "check that both show the same place, and the CRS of the layer",
        )
    return found


def _on_raster(truth: Truth, reader: StoreReader) -> list[tuple[shapely.Geometry, float | None]]:
    """Return what a raster shows of each object in native pixels, and the whole object's area there."""
    raster = reader.metadata.raster
    crs = pyproj.CRS.from_wkt(raster.crs_wkt)
    inverse = raster.transform.inverse()
    frame = shapely.box(*reader.pyramid.bounds)
    shown: list[tuple[shapely.Geometry, float | None]] = []
    # What has no place in the raster's CRS lies outside the raster, and must not lose the others.
    for geometry in reproject(truth.geometries, truth.crs, crs, may_fail=True):
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            shown.append((shapely.Polygon(), None))
            continue
        native = shapely.make_valid(inverse.apply_geometry(geometry))
        shown.append((merge(polygon_parts(native.intersection(frame))), native.area or None))
    return shown


def _native_prompts(kept: KeptPrompts | None, reader: StoreReader, geometry: shapely.Geometry) -> Prompts | None:
    """Bring kept prompts to native pixels; None where they belong to another raster, or to another part."""
    raster = reader.metadata.raster
    if kept is None or kept.raster not in ("", raster.file_name):
        return None
    prompts = kept.prompts.transformed(raster.transform.inverse().apply)
    inside = prompts.within(reader.pyramid.bounds)
    if len(inside.points) != len(prompts.points) or (prompts.box is not None and inside.box is None):
        return None
    # The parts of one accepted object are features of their own with the same prompts.
    positives = [shapely.Point(point.x, point.y) for point in inside.points if point.positive]
    if positives and not any(geometry.covers(point) for point in positives):
        return None
    box = inside.box
    if box is not None and shapely.box(*geometry.bounds).area < _LEAST_BOX_FILL * box.width * box.height:
        return None
    return inside
