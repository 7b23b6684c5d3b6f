"""Synthetic orthophotos with exact outlines: fields, roads, buildings, trees and water.

The demo, the tests, the benchmarks and part of the training of `mini` use them. The same seed gives the same scene.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
import shapely.affinity
import shapely.ops
from numpy.typing import NDArray
from rasterio import features
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry

from geosam_es.errors import RasterError

__all__ = ["Painter", "SyntheticScene", "largest_polygon", "smooth_noise", "synthetic_orthophoto"]

Image = NDArray[np.float32]
Objects = list[tuple[str, Polygon]]


def _palette(colours: str) -> NDArray[np.float32]:
    """Return colours written in hexadecimal as float32 (N, 3)."""
    return np.array([list(bytes.fromhex(colour)) for colour in colours.split()], dtype=np.float32)


CROPS = _palette("486832 60803e 36542c 808a4e b0a068 c4b684 8c7054 705a44 747c46 54704a")
ROOFS = _palette("a85642 8e4a3c 969698 c4c4c2 70747a b0967a 5c6e86")
LEAVES = _palette("304a26 3e5a2e 283e28 546030")
WATERS = _palette("344a54 283e42 48584e 2e425c")
ASPHALT, GRAVEL, GRASS = _palette("7e7c7a b6aa92 627442")
MIN_OBJECT_PIXELS = 30.0


@dataclass(frozen=True)
class SyntheticScene:
    """A synthetic orthophoto and its ground truth.

    Attributes
    ----------
    image : uint8 (H, W, 3)
        RGB.
    objects : list of (str, Polygon)
        Class (``field``, ``road``, ``building``, ``tree``, ``water``) and outline in pixels, x right and y
        down. Later objects cover earlier ones.
    """

    image: NDArray[np.uint8]
    objects: Objects


def synthetic_orthophoto(height: int, width: int, pixel_size_m: float, seed: int) -> SyntheticScene:
    """Make a synthetic orthophoto.

    Parameters
    ----------
    height, width : int
        Size in pixels, at least 64 each.
    pixel_size_m : float
        Ground size of a pixel, which determines the size of trees, houses and roads.
    seed : int
        The same seed gives the same scene.

    Returns
    -------
    SyntheticScene

    Raises
    ------
    RasterError
        If the image is too small, or the pixel size is outside 0.01 to 30 m.
    """
    if min(height, width) < 64:
        raise RasterError(f"a synthetic image of {width}x{height} pixels is too small", "use 64 or more")
    if not 0.01 <= pixel_size_m <= 30:
        raise RasterError(f"a pixel size of {pixel_size_m} m is not supported", "use 0.01 to 30 m")
    return Painter(height, width, pixel_size_m, np.random.default_rng(seed)).paint()


def _ramp(size: int, cells: int) -> NDArray[np.float32]:
    """Return weights (size, cells) that interpolate linearly between `cells` knots."""
    at = np.linspace(0, cells - 1, size, dtype=np.float32)
    distance = np.abs(at[:, None] - np.arange(cells, dtype=np.float32))
    return np.asarray(np.maximum(0, 1 - distance), dtype=np.float32)


def smooth_noise(rng: np.random.Generator, height: int, width: int, cell: float) -> NDArray[np.float32]:
    """Return smooth noise (height, width) of about unit deviation whose blobs are `cell` pixels wide."""
    rows, columns = max(2, round(height / cell) + 1), max(2, round(width / cell) + 1)
    knots = rng.standard_normal((rows, columns)).astype(np.float32)
    if cell <= 3:
        index = (np.arange(height) * rows // height)[:, None], (np.arange(width) * columns // width)[None]
        return np.asarray(knots[index], dtype=np.float32)
    # Few knots: a dense product per axis is faster than indexing.
    return np.asarray(1.3 * (_ramp(height, rows) @ knots @ _ramp(width, columns).T), dtype=np.float32)


def largest_polygon(geometry: BaseGeometry) -> Polygon | None:
    """Return the largest polygon of a geometry, without slivers and tiny holes."""
    parts = [part for part in shapely.get_parts(geometry) if part.geom_type == "Polygon" and part.area > 0]
    if not parts:
        return None
    part = max(parts, key=lambda polygon: float(polygon.area))
    return Polygon(part.exterior, [ring for ring in part.interiors if Polygon(ring).area > MIN_OBJECT_PIXELS])


class Painter:
    """Paints one scene, from the ground up to the tree tops."""

    def __init__(self, height: int, width: int, pixel: float, rng: np.random.Generator) -> None:
        self.height, self.width, self.pixel, self.rng = height, width, pixel, rng
        self.frame = shapely.box(0, 0, width, height)
        sun = rng.uniform(0, 2 * np.pi)
        self.sun = np.array([np.cos(sun), np.sin(sun)])
        self.shadow_length = float(rng.uniform(0.5, 1.1))
        self.image: Image = np.zeros((height, width, 3), dtype=np.float32)
        self.objects: Objects = []
        self.built: list[BaseGeometry] = []
        self.fine = smooth_noise(rng, height, width, 1.0)
        self.medium = smooth_noise(rng, height, width, 4.0)
        self.broad = smooth_noise(rng, height, width, max(8.0, 12.0 / pixel))

    def metres(self, length: float) -> float:
        """Return a length in pixels."""
        return length / self.pixel

    def paint(self) -> SyntheticScene:
        """Paint everything, and return the scene."""
        parcels, roads = self.parcels()
        road_area = shapely.union_all(roads)
        water = self._water(road_area)
        covered = shapely.union_all([road_area, *water])
        self._ground()
        for parcel in parcels:
            self._parcel(parcel, covered)
        for pond in water:
            self._paint_water(pond)
        for road in roads:
            self._road(road)
        self._trees_along(parcels, covered)
        image = self.image + 3.0 * self.fine[..., None] + 2.0 * self.medium[..., None]
        image += self.rng.normal(0, 1.5, image.shape[:2]).astype(np.float32)[..., None]
        image += float(self.rng.uniform(0.0, 0.12)) * (190 - image)
        return SyntheticScene(np.clip(image, 0, 255).astype(np.uint8), self.objects)

    def parcels(self) -> tuple[list[Polygon], list[BaseGeometry]]:
        """Split a rotated rectangle again and again; some of the cuts become roads."""
        rng = self.rng
        reach = float(np.hypot(self.height, self.width)) * 0.75
        middle = (self.width / 2, self.height / 2)
        angle = float(rng.uniform(0, 180))
        whole = shapely.box(middle[0] - reach, middle[1] - reach, middle[0] + reach, middle[1] + reach)
        side = float(np.clip(self.metres(rng.uniform(60, 130)), 130, 420))
        open_parts = [(whole, 0)]
        parcels: list[Polygon] = []
        roads: list[Polygon] = []
        while open_parts:
            part, generation = open_parts.pop()
            x0, y0, x1, y1 = part.bounds
            if max(x1 - x0, y1 - y0) < side * rng.uniform(1.2, 2.2) or part.area < side * side * 0.6:
                parcels.append(part)
                continue
            cut = self._cut((x0, y0, x1, y1))
            if generation < 4 and rng.random() < 0.75:
                half = self.metres(rng.uniform(2.5, 4.5) if generation < 2 else rng.uniform(1.4, 2.2))
                roads.append(cut.buffer(max(1.2, half), cap_style="flat"))
            pieces = shapely.get_parts(shapely.ops.split(part, cut))
            open_parts.extend((piece, generation + 1) for piece in pieces)
        turned = [shapely.affinity.rotate(p, angle, origin=middle) for p in parcels]
        lanes = [shapely.affinity.rotate(p, angle, origin=middle).intersection(self.frame) for p in roads]
        visible = [p for p in turned if p.intersects(self.frame)]
        return visible, [lane for lane in lanes if not lane.is_empty]

    def _cut(self, bounds: tuple[float, float, float, float]) -> LineString:
        """Return a slightly bent line across the shorter side of a box."""
        rng = self.rng
        x0, y0, x1, y1 = bounds
        at = rng.uniform(0.35, 0.65, 2) + rng.normal(0, 0.04, 2)
        bend = float(at.mean() + rng.normal(0, 0.015))
        wide = (x1 - x0) >= (y1 - y0)
        low, high = (y0, y1) if wide else (x0, x1)
        base, extent = (x0, x1 - x0) if wide else (y0, y1 - y0)
        margin = 0.02 * (high - low) + 1
        along = (low - margin, (low + high) / 2, high + margin)
        across = (base + at[0] * extent, base + bend * extent, base + at[1] * extent)
        return LineString([(a, b) if wide else (b, a) for a, b in zip(across, along)])

    def _water(self, roads: BaseGeometry) -> list[Polygon]:
        """Return a pond or two and perhaps a brook."""
        rng = self.rng
        areas: list[BaseGeometry] = []
        for _ in range(int(rng.integers(1, 3))):
            centre = rng.uniform([0, 0], [self.width, self.height])
            radius = float(np.clip(self.metres(rng.uniform(10, 30)), 16, 110))
            areas.append(self.blob(centre, radius, 0.25).difference(roads.buffer(self.metres(1.5))))
        if rng.random() < 0.5:
            at = np.linspace(-0.05, 1.05, 24)
            sway = np.cumsum(rng.normal(0, 0.02, 24)) + rng.uniform(0.2, 0.8)
            line = LineString(np.column_stack([at * self.width, sway * self.height]))
            brook = line.buffer(float(np.clip(self.metres(rng.uniform(2, 5)), 3, 24)), join_style="round")
            areas.append(brook.difference(roads))
        found = [largest_polygon(area.intersection(self.frame)) for area in areas]
        return [polygon for polygon in found if polygon is not None]

    def blob(self, centre: NDArray[np.float64], radius: float, roughness: float) -> Polygon:
        """Return a round shape with a wavy border."""
        turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        wave = np.zeros(40)
        for order in range(2, 7):
            wave += self.rng.normal(0, roughness / order) * np.cos(order * turn + self.rng.uniform(0, 6.3))
        distance = radius * np.clip(1 + wave, 0.4, 1.8)
        ring = np.column_stack([centre[0] + distance * np.cos(turn), centre[1] + distance * np.sin(turn)])
        return shapely.make_valid(Polygon(ring)).buffer(0)

    def _add(self, name: str, geometry: BaseGeometry) -> None:
        polygon = largest_polygon(geometry.intersection(self.frame))
        if polygon is not None and polygon.is_valid and polygon.area >= MIN_OBJECT_PIXELS:
            self.objects.append((name, polygon))

    def window(self, geometry: BaseGeometry) -> tuple[slice, slice, NDArray[np.float32]] | None:
        """Return the rows and columns of a geometry and its soft-edged coverage (h, w, 1) there."""
        x0, y0, x1, y1 = geometry.bounds if not geometry.is_empty else (0.0, 0.0, 0.0, 0.0)
        left, top = max(0, int(x0) - 1), max(0, int(y0) - 1)
        right, bottom = min(self.width, int(x1) + 2), min(self.height, int(y1) + 2)
        if right <= left or bottom <= top or geometry.is_empty:
            return None
        moved = shapely.affinity.translate(geometry, -left, -top)
        if (right - left) * (bottom - top) <= 2500:
            # The same pixels as GDAL's, which takes milliseconds even for the smallest object.
            shapely.prepare(moved)
            x, y = np.meshgrid(np.arange(right - left) + 0.5, np.arange(bottom - top) + 0.5)
            mask = shapely.contains_xy(moved, x, y).astype(np.float32)
        else:
            mask = features.rasterize([moved], (bottom - top, right - left), dtype="uint8").astype(np.float32)
        padded = np.pad(mask, 1, mode="edge")
        soft = 0.6 * mask + 0.1 * (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:])
        return slice(top, bottom), slice(left, right), soft[..., None]

    def blend(self, geometry: BaseGeometry, colour: NDArray[np.float32] | float, weight: float = 1.0) -> None:
        """Paint a geometry in one colour, or in a (h, w, 3) colour of its window."""
        window = self.window(geometry)
        if window is None:
            return
        rows, columns, cover = window
        area = self.image[rows, columns]
        area += weight * cover * (colour - area)

    def shade(self, geometry: BaseGeometry, factor: float) -> None:
        """Darken a geometry to a share of its light."""
        window = self.window(geometry)
        if window is not None:
            rows, columns, cover = window
            self.image[rows, columns] *= 1 - (1 - factor) * cover * np.array([1.0, 0.97, 0.9], dtype=np.float32)

    def _ground(self) -> None:
        colour = GRASS + self.rng.normal(0, 6, 3).astype(np.float32)
        self.image[:] = colour * (1 + 0.10 * self.broad + 0.05 * self.medium)[..., None]

    def _parcel(self, parcel: Polygon, covered: BaseGeometry) -> None:
        rng = self.rng
        inner = parcel.buffer(-max(1.0, self.metres(rng.uniform(0.4, 2.0)))).difference(
            covered.buffer(self.metres(1.0))
        )
        field = largest_polygon(inner.intersection(self.frame))
        if field is None or field.area < 200:
            return
        if rng.random() < 0.25:
            self._farmstead(field)
        elif rng.random() < 0.12:
            self._wood(field)
        else:
            self._field(field)

    def _field(self, field: Polygon) -> None:
        """Paint a field: soil patches, crop rows along its longer side, tramlines."""
        rng = self.rng
        window = self.window(field)
        if window is None:
            return
        rows, columns, cover = window
        colour = CROPS[int(rng.integers(len(CROPS)))] + rng.normal(0, 9, 3).astype(np.float32)
        ring = shapely.get_coordinates(field.minimum_rotated_rectangle)
        sides = np.diff(ring[:3], axis=0)
        along = sides[int(np.argmax(np.hypot(sides[:, 0], sides[:, 1])))]
        normal = np.array([-along[1], along[0]]) / max(1e-6, float(np.hypot(*along)))
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
        across = normal[0].astype(np.float32) * x + normal[1].astype(np.float32) * y
        light = 1 + rng.uniform(0.02, 0.10) * self.broad[rows, columns]
        light += rng.uniform(0.01, 0.06) * self.medium[rows, columns]
        spacing = self.metres(rng.uniform(0.7, 3.0))
        if spacing >= 2.5:
            light += rng.uniform(0.03, 0.12) * np.sin(across * (2 * np.pi / spacing))
        tram = self.metres(rng.uniform(12, 24))
        width = max(1.0, self.metres(0.5))
        if tram > 8 * width and rng.random() < 0.6:
            light -= rng.uniform(0.06, 0.16) * ((across % tram) < width)
        area = self.image[rows, columns]
        area += cover * (colour * light[..., None] - area)
        self._add("field", field)

    def _wood(self, area: Polygon) -> None:
        self.blend(area, np.array([58, 76, 46], dtype=np.float32))
        spacing = max(7.0, self.metres(7))
        x0, y0, x1, y1 = area.bounds
        count = min(160, int(area.area / spacing**2))
        shapely.prepare(area)
        for centre in self.rng.uniform([x0, y0], [x1, y1], (count, 2)):
            if area.contains(Point(centre)):
                self._tree(centre, self.metres(self.rng.uniform(2.5, 5)), labelled=False)

    def _farmstead(self, area: Polygon) -> None:
        """Paint houses with their yard, and trees around them."""
        rng = self.rng
        x0, y0, x1, y1 = area.bounds
        step = max(26.0, self.metres(24))
        angle = float(rng.uniform(0, 90))
        shapely.prepare(area)
        for cx in np.arange(x0 + step / 2, x1, step):
            for cy in np.arange(y0 + step / 2, y1, step):
                centre = np.array([cx, cy]) + rng.normal(0, step * 0.08, 2)
                if len(self.built) > 140 or not area.contains(Point(centre).buffer(step * 0.5)):
                    continue
                kind = rng.random()
                if kind < 0.7:
                    self._building(centre, angle + float(rng.choice([0, 90])) + float(rng.normal(0, 4)))
                elif kind < 0.9:
                    self._tree(centre, self.metres(rng.uniform(2, 5)))

    def _building(self, centre: NDArray[np.float64], angle: float) -> None:
        rng = self.rng
        length, depth = max(9.0, self.metres(rng.uniform(9, 19))), max(7.0, self.metres(rng.uniform(6.5, 10)))
        body: BaseGeometry = shapely.box(-length / 2, -depth / 2, length / 2, depth / 2)
        if rng.random() < 0.3:
            wing = shapely.box(-length / 2, 0, -length / 2 + depth * 0.8, depth * 1.05)
            body = body.union(wing)
        near = shapely.box(-length / 2, 0, length / 2, depth / 2)

        def place(shape: BaseGeometry) -> BaseGeometry:
            return shapely.affinity.translate(shapely.affinity.rotate(shape, angle, origin=(0, 0)), *centre)

        outline = place(body)
        self.blend(outline.buffer(self.metres(rng.uniform(1, 4))), GRAVEL * float(rng.uniform(0.7, 1)), 0.5)
        offset = self.sun * self.metres(rng.uniform(4, 8)) * self.shadow_length
        moves = [shapely.affinity.translate(outline, *(offset * share)) for share in (0.25, 0.5, 0.75, 1.0)]
        self.shade(shapely.union_all(moves).difference(outline), 0.42)
        colour = ROOFS[int(rng.integers(len(ROOFS)))] + rng.normal(0, 8, 3).astype(np.float32)
        turn = np.deg2rad(angle)
        facing = float(np.dot(self.sun, [-np.sin(turn), np.cos(turn)]))
        slope = float(rng.choice([0.0, 0.16, 0.25]))
        self.blend(outline, colour * (1 + slope * facing))
        self.blend(place(near), colour * (1 - slope * facing))
        self.built.append(outline)
        self._add("building", outline)

    def _tree(self, centre: NDArray[np.float64], radius: float, labelled: bool = True) -> None:
        """Paint a crown, lit from the sun's side, and its shadow."""
        rng = self.rng
        radius = max(2.5, radius)
        crown = self.blob(centre, radius, 0.3)
        self.shade(shapely.affinity.translate(crown, *(self.sun * radius * 1.1 * self.shadow_length)), 0.5)
        window = self.window(crown)
        if window is None:
            return
        rows, columns, cover = window
        x = (np.arange(columns.start, columns.stop) - centre[0])[None] / radius
        y = (np.arange(rows.start, rows.stop) - centre[1])[:, None] / radius
        lit = 1 - 0.28 * (x * self.sun[0] + y * self.sun[1]) + 0.10 * self.medium[rows, columns]
        lit = (lit + 0.08 * self.fine[rows, columns]).astype(np.float32)
        colour = LEAVES[int(rng.integers(len(LEAVES)))] + rng.normal(0, 5, 3).astype(np.float32)
        area = self.image[rows, columns]
        area += cover * (colour * lit[..., None] - area)
        if labelled:
            self._add("tree", crown)

    def _trees_along(self, parcels: list[Polygon], covered: BaseGeometry) -> None:
        """Plant trees along some borders of parcels, off roads, houses and water."""
        rng = self.rng
        taken = shapely.union_all([covered, *self.built]).buffer(self.metres(3))
        shapely.prepare(taken)
        for parcel in parcels:
            line = parcel.exterior
            for at in np.arange(0, line.length, max(14.0, self.metres(16))):
                point = line.interpolate(float(at + rng.uniform(0, 8)))
                if rng.random() < 0.3 and self.frame.contains(point) and not taken.contains(point):
                    self._tree(np.array([point.x, point.y]), self.metres(rng.uniform(2, 5.5)))

    def _paint_water(self, pond: Polygon) -> None:
        colour = WATERS[int(self.rng.integers(len(WATERS)))]
        self.blend(pond.buffer(self.metres(1.2)), np.array([112, 106, 76], dtype=np.float32), 0.6)
        window = self.window(pond)
        if window is not None:
            rows, columns, cover = window
            area = self.image[rows, columns]
            area += cover * (colour * (1 + 0.06 * self.broad[rows, columns])[..., None] - area)
        self._add("water", pond)

    def _road(self, road: BaseGeometry) -> None:
        colour = ASPHALT if self.rng.random() < 0.6 else GRAVEL
        self.blend(road.buffer(self.metres(1.0)), np.array([140, 136, 100], dtype=np.float32), 0.4)
        self.blend(road, colour * float(self.rng.uniform(0.9, 1.1)))
        self._add("road", road)
