"""Converts between the canvas and a store: CRS, scale and level."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray
from qgis.core import QgsMapSettings, QgsPointXY

from ...core.geotransform import GeoTransform
from ...core.prompts import Bounds
from ...core.strokes import brushed_area
from ...errors import EditError
from ...qgis_support.crs import points_in_world, transform_points
from ..stores.open_store import OpenStore

__all__ = ["Sight", "View"]

_PLACES_PER_SIDE = 3


class Sight(NamedTuple):
    """What is in view, in the raster's CRS.

    Attributes
    ----------
    corners : list of (x, y)
        The canvas's four corners; the canvas may be rotated.
    places : list of (x, y)
        Points spread evenly over the canvas, the centre first.
    level : int
        The level that suits the map's scale.
    """

    corners: list[tuple[float, float]]
    places: list[tuple[float, float]]
    level: int


class View:
    """The canvas, in terms of a store.

    Parameters
    ----------
    map_settings : callable
        Returns the canvas's QgsMapSettings.

    Notes
    -----
    Methods raise EditError for a point that does not exist in the other CRS.
    """

    def __init__(self, map_settings: Callable[[], QgsMapSettings]) -> None:
        self._map_settings = map_settings

    def to_raster(self, store: OpenStore, points: Sequence[QgsPointXY]) -> list[tuple[float, float]]:
        """Transform points from the canvas's CRS to the raster's."""
        moved = transform_points(points, self._map_settings().destinationCrs(), store.crs)
        return [(point.x(), point.y()) for point in moved]

    def prompts_to_raster(self, store: OpenStore, points: Sequence[QgsPointXY]) -> list[tuple[float, float]]:
        """Transform points as `to_raster`, to the side of the antimeridian where the raster is."""
        return points_in_world(self.to_raster(store, points), store.crs, store.segmenter.map_bounds)

    def is_in(self, store: OpenStore, point: QgsPointXY) -> bool:
        """Tell whether a point in the canvas's CRS is within the bounds of a store's raster."""
        bounds = store.segmenter.map_bounds
        try:
            ((x, y),) = self.prompts_to_raster(store, [point])
        except EditError:
            return False
        return bounds.min_x <= x <= bounds.max_x and bounds.min_y <= y <= bounds.max_y

    def is_on_image(self, store: OpenStore, point: QgsPointXY) -> bool:
        """Tell whether a point in the canvas's CRS is on a store's raster, or on a sheet that is read with it."""
        try:
            ((x, y),) = self.prompts_to_raster(store, [point])
        except EditError:
            return False
        return store.segmenter.is_on_image(x, y)

    def from_raster(self, store: OpenStore, x: float, y: float) -> QgsPointXY:
        """Transform a point from the raster's CRS to the canvas's."""
        (point,) = transform_points([QgsPointXY(x, y)], store.crs, self._map_settings().destinationCrs())
        return point

    def screen_pixel(self, store: OpenStore, point: QgsPointXY) -> float:
        """Return the side of a pixel of the screen in native pixels, at a point in the canvas's CRS; 0 if unknown."""
        step = self._map_settings().mapUnitsPerPixel()
        neighbours = [point, QgsPointXY(point.x() + step, point.y()), QgsPointXY(point.x(), point.y() + step)]
        (x, y), (right_x, right_y), (up_x, up_y) = self.to_raster(store, neighbours)
        screen_pixel = GeoTransform(right_x - x, up_x - x, x, right_y - y, up_y - y, y).pixel_size
        return screen_pixel / store.metadata.raster.transform.pixel_size if math.isfinite(screen_pixel) else 0.0

    def brushed(
        self, store: OpenStore, stroke: Sequence[QgsPointXY], radius: float
    ) -> shapely.Polygon | shapely.MultiPolygon:
        """Return the area that a brush covers, in the raster's CRS.

        The stroke is in the canvas's CRS. The brush is a circle on the screen. Its radius is in native pixels at the
        start of the stroke.
        """
        pixel = self._map_settings().mapUnitsPerPixel() / (self.screen_pixel(store, stroke[0]) or 1.0)
        # A line needs two positions.
        line = shapely.LineString([(point.x(), point.y()) for point in (stroke[0], *stroke)])

        def to_raster(xy: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.array(self.prompts_to_raster(store, [QgsPointXY(x, y) for x, y in xy.tolist()]))

        return shapely.transform(brushed_area(line, radius * pixel, pixel), to_raster)

    def level(self, store: OpenStore, point: QgsPointXY) -> int:
        """Return the coarsest level with pixels no larger than the screen's, at a point in the canvas's CRS.

        It is below 0 if the map shows native pixels enlarged, and the store can answer there.
        """
        ratio = self.screen_pixel(store, point)
        if ratio == 0.0:
            return 0
        return max(store.segmenter.finest_level, store.segmenter.pyramid.level_for_pixel(ratio))

    def level_around(self, store: OpenStore, bounds: Bounds) -> int:
        """Return `level` at the centre of a rectangle in the raster's CRS; 0 if the map cannot show that point."""
        middle = (bounds.min_x + bounds.max_x) / 2, (bounds.min_y + bounds.max_y) / 2
        try:
            return self.level(store, self.from_raster(store, *middle))
        except EditError:
            return 0

    def sight(self, store: OpenStore) -> Sight:
        """Return what is in view."""
        polygon = self._map_settings().visiblePolygon()
        corner, right, opposite, down = (QgsPointXY(polygon[index]) for index in range(4))

        def at(u: float, v: float) -> QgsPointXY:
            return QgsPointXY(
                corner.x() + u * (right.x() - corner.x()) + v * (down.x() - corner.x()),
                corner.y() + u * (right.y() - corner.y()) + v * (down.y() - corner.y()),
            )

        steps = [(2 * index + 1) / (2 * _PLACES_PER_SIDE) for index in range(_PLACES_PER_SIDE)]
        spread = sorted(((u, v) for u in steps for v in steps), key=lambda uv: abs(uv[0] - 0.5) + abs(uv[1] - 0.5))
        places = self.to_raster(store, [at(u, v) for u, v in spread])
        corners = self.to_raster(store, [corner, right, opposite, down])
        return Sight(corners, places, self.level(store, at(0.5, 0.5)))
