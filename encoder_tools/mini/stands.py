"""Synthetic images of what real training data lacks, with nested outlines.

Orchards, vineyards, groves, shrubs on bare ground, ponds, sand and rock, roofs and cars, as several sensors see them.
A click on a tree may mean the tree, its row, or the whole orchard: each scene has these as three layers of outlines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Union

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from shapely.geometry import LineString, Polygon
from shapely.geometry.base import BaseGeometry

from ..synthetic import Painter, largest_polygon, smooth_noise

__all__ = ["Stands", "synthetic_stands"]

SINGLE, GROUP, STAND = 0, 1, 2
MIN_PIXELS = 60.0
MAX_CROWNS = 1500
PIXEL_SIZES_M = (0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.5)

Colour = NDArray[np.float32]
Painting = Callable[[NDArray[np.float64], float], Union[BaseGeometry, None]]


def _spectra(text: str) -> Colour:
    """Return red, green, blue and near infrared, written in hexadecimal, as float32 (N, 4)."""
    return np.array([list(bytes.fromhex(spectrum)) for spectrum in text.split()], dtype=np.float32)


SOILS = _spectra("96785aa5 a5694baf c8b496cd 5f50416e 969187a0 b48c64be d2be9bd7")
GRASSES = _spectra("697846be aa9b69be 507337d2 8c8c5abe 5a7046c8")
SANDS = _spectra("d7c3a0e1 beb4a5c8 e1d7bee6 c8aa82d2")
ROCKS = _spectra("9691899b 69645f6e a06e55aa afaaa0b4 78736e7d")
LEAVES = _spectra("30442696 465f32b4 646e5096 6e8246c8 8c6432aa 385028a0 52663caa 283c2482")
DEAD = _spectra("8c7d698c a09687a0")
WATERS = _spectra("1e2d320c 3c503c19 786e5532 2d4b5f0f 5a6a5a20 14283c0a")
BEDS = _spectra("7d6e5a69 cdc8bec8 a0917daa b4a582be")
PAVED = _spectra("5f5f6164 a5a29baa 8c878291 78767678")
ROOFS = _spectra(
    "af6446b9 6e463c78 55585f5a ebebe8eb a09e98a5 bec3c8be 5078af96 5f876e8c 965f4196 968261a5 a53c32a0 3c3c3e41"
    " c8b9a0c8 8c5a46a0 dcd2c3dc 78828c82"
)
CARS = _spectra("e6e6e6dc b4b8bcb4 1e1e2223 961e1e78 28468c50 5a5f645f 3c3c4141 c8b48cbe d2d2d7d2")


@dataclass(frozen=True)
class Stands:
    """A synthetic image with nested outlines.

    Attributes
    ----------
    image : uint8 (H, W, 3)
    layers : tuple of three lists of polygons
        In pixels: single objects, rows and groups, whole stands.
    """

    image: NDArray[np.uint8]
    layers: tuple[list[Polygon], list[Polygon], list[Polygon]]


def synthetic_stands(height: int, width: int, seed: int) -> Stands:
    """Make a synthetic image with nested outlines; the same seed gives the same image."""
    rng = np.random.default_rng(seed)
    return _StandPainter(height, width, float(rng.choice(PIXEL_SIZES_M)), rng).paint_stands()


class _StandPainter(Painter):
    """Paints one image: every parcel has one use."""

    def __init__(self, height: int, width: int, pixel: float, rng: np.random.Generator) -> None:
        super().__init__(height, width, pixel, rng)
        self.layers: tuple[list[Polygon], list[Polygon], list[Polygon]] = ([], [], [])
        self.crowns = 0
        # Rows give the displayed bands from red, green, blue and near infrared.
        pan = rng.dirichlet([3, 3, 2, 2])
        self.bands = np.array(
            [np.eye(4)[:3], np.eye(4)[[3, 0, 1]], np.repeat(pan[None], 3, 0)][int(rng.choice(3, p=[0.66, 0.17, 0.17]))],
            dtype=np.float32,
        )
        self.coarse = smooth_noise(rng, height, width, 60.0)

    def paint_stands(self) -> Stands:
        rng = self.rng
        uses: tuple[Callable[[Polygon], None], ...] = (
            self._orchard,
            self._vineyard,
            self._grove,
            self._scattered,
            self._houses,
            self._car_park,
            self._pond,
            self._patch,
            self._plain_field,
        )
        shares = rng.dirichlet(np.full(len(uses), 0.5))
        self._cover(self.frame, self._any(GRASSES if rng.random() < 0.5 else SOILS), self._any(SOILS))
        parcels, roads = self.parcels()
        surface = self._any(PAVED if rng.random() < 0.6 else SOILS)
        for road in roads:
            self.blend(road, surface * float(rng.uniform(0.9, 1.1)))
        taken = shapely.union_all(roads).buffer(self.metres(1.0))
        for parcel in parcels:
            area = largest_polygon(parcel.buffer(-self.metres(rng.uniform(0.5, 3))).difference(taken))
            if area is not None and area.intersects(self.frame) and area.area > 1500:
                uses[int(rng.choice(len(uses), p=shares))](area)
                if rng.random() < 0.15:
                    self._hedge(area)
        return Stands(self._seen(), self.layers)

    def _seen(self) -> NDArray[np.uint8]:
        """Return the image with the blur, noise, haze and contrast of a sensor."""
        rng = self.rng
        image = self.image + 4.0 * self.fine[..., None] + 2.0 * self.medium[..., None]
        side = float(rng.uniform(0.0, 0.28))
        for axis in (0, 1):
            image = (1 - 2 * side) * image + side * (np.roll(image, 1, axis) + np.roll(image, -1, axis))
        image += rng.normal(0, rng.uniform(0.5, 4.0), image.shape[:2]).astype(np.float32)[..., None]
        image = (image - 120) * float(rng.uniform(0.7, 1.25)) + float(rng.uniform(95, 140))
        image += float(rng.choice([0.0, rng.uniform(0, 0.4)])) * (200 - image)
        return np.asarray(np.clip(image, 0, 255), dtype=np.uint8)

    def _any(self, spectra: Colour) -> Colour:
        """Return one of the materials, slightly changed, in the bands of the image."""
        spectrum = spectra[int(self.rng.integers(len(spectra)))] * np.exp(self.rng.normal(0, 0.05, 4))
        return np.asarray(self.bands @ spectrum.astype(np.float32) + self.rng.normal(0, 4), dtype=np.float32)

    def _put(self, layer: int, geometry: BaseGeometry) -> None:
        polygon = largest_polygon(geometry.intersection(self.frame))
        if polygon is not None and polygon.area >= MIN_PIXELS:
            self.layers[layer].append(polygon)

    def _put_all(self, layer: int, found: Iterable[BaseGeometry | None]) -> list[BaseGeometry]:
        known = [thing for thing in found if thing is not None]
        for thing in known:
            self._put(layer, thing)
        return known

    def _cover(self, area: BaseGeometry, colour: Colour, patches: Colour | None = None, weight: float = 1.0) -> None:
        """Paint ground with patches of a second colour and texture of several sizes."""
        window = self.window(area)
        if window is None:
            return
        rows, columns, cover = window
        rng = self.rng
        light = (
            1
            + rng.uniform(0.02, 0.10) * self.broad[rows, columns]
            + rng.uniform(0.02, 0.07) * self.medium[rows, columns]
        )
        ground = np.broadcast_to(colour, (*light.shape, 3))
        if patches is not None:
            noise = self.coarse[rows, columns] + 0.5 * self.broad[rows, columns] + 0.4 * self.medium[rows, columns]
            share = 1 / (1 + np.exp(-3.0 * (noise - rng.normal(0.3, 0.8))))
            ground = ground + float(rng.uniform(0.3, 1.0)) * share[..., None] * (patches - ground)
        part = self.image[rows, columns]
        part += weight * cover * (ground * light[..., None] - part)

    def _crown(self, centre: NDArray[np.float64], radius: float, colour: Colour, roughness: float) -> Polygon | None:
        """Paint a crown with its shadow, and return its outline; beyond a limit of crowns nothing is painted."""
        self.crowns += 1
        if self.crowns > MAX_CROWNS:
            return None
        crown = self.blob(centre, radius, roughness)
        height = radius * float(self.rng.uniform(0.7, 1.3)) * self.shadow_length
        self.shade(shapely.affinity.translate(crown, *(self.sun * height)), 0.5)
        window = self.window(crown)
        if window is None:
            return None
        rows, columns, cover = window
        x = (np.arange(columns.start, columns.stop) - centre[0])[None] / radius
        y = (np.arange(rows.start, rows.stop) - centre[1])[:, None] / radius
        leaves = smooth_noise(self.rng, cover.shape[0], cover.shape[1], max(2.0, radius / 3))
        lit = 1 - 0.3 * (x * self.sun[0] + y * self.sun[1]) - 0.18 * (x**2 + y**2)
        lit = lit + 0.16 * leaves + 0.10 * self.fine[rows, columns] + 0.1
        part = self.image[rows, columns]
        part += 0.95 * cover * (colour * np.clip(lit, 0.25, 1.7)[..., None] - part)
        return crown

    def _crowns(self) -> Callable[[NDArray[np.float64], float], Polygon | None]:
        """Return a function that paints a crown of one stand, of a radius in pixels."""
        colour, roughness = self._any(DEAD if self.rng.random() < 0.06 else LEAVES), float(self.rng.uniform(0.1, 0.35))

        def crown(centre: NDArray[np.float64], radius: float) -> Polygon | None:
            changes = np.exp(self.rng.normal(0, (0.12, 0.08)))
            return self._crown(centre, radius * float(changes[0]), colour * float(changes[1]), roughness)

        return crown

    def _rows(
        self, area: Polygon, step: float, along: float, paint: Painting, gaps: float, width: float, grouped: bool = True
    ) -> None:
        """Paint things in rows.

        Parameters
        ----------
        area : Polygon
        step, along : float
            Distance of rows, and of things in a row, in pixels.
        paint : callable
            Paints a thing at a place, turned by an angle in radians, and returns its outline.
        gaps : float
            Share of missing things.
        width : float
            Width of a row in pixels. Rows too thin for single things are painted as lines.
        grouped : bool
            Whether rows are objects.
        """
        rng = self.rng
        angle = _direction(area) if rng.random() < 0.8 else float(rng.uniform(0, np.pi))
        direction, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        middle, reach = np.array(area.centroid.coords[0]), float(np.hypot(self.height, self.width))
        inner, leaves = area.buffer(-0.6 * max(width, along)).intersection(self.frame), self._any(LEAVES)
        for offset in np.arange(-reach, reach, step):
            line = LineString([middle + offset * across + end * direction for end in (-reach, reach)])
            for part in shapely.get_parts(line.intersection(inner)):
                if part.length < 2 * along or rng.random() < 0.2 * gaps:
                    continue
                row: BaseGeometry = part.buffer(0.5 * width)
                if width < 5:
                    self.shade(shapely.affinity.translate(row, *(self.sun * 0.5 * width)), 0.7)
                    self.blend(row, leaves * float(rng.uniform(0.9, 1.1)), 0.85)
                else:
                    places = np.arange(0, part.length, along)
                    places = places[rng.random(len(places)) >= gaps]
                    points = [np.array(part.interpolate(at).coords[0]) for at in places]
                    found = [paint(point + rng.normal(0, 0.05 * along, 2), angle) for point in points]
                    known = self._put_all(SINGLE, found)
                    if len(known) < 3:
                        continue
                    row = shapely.union_all([LineString(points).buffer(0.25 * width), *known])
                if grouped:
                    self._put(GROUP, row)

    def _orchard(self, area: Polygon) -> None:
        rng = self.rng
        self._cover(area, self._any(SOILS if rng.random() < 0.6 else GRASSES), self._any(GRASSES))
        radius, crown = self.metres(float(rng.uniform(1.0, 3.5))), self._crowns()
        along = radius * float(rng.uniform(1.6, 3.6))
        step, gaps = max(along, radius * float(rng.uniform(2.4, 4.5))), float(rng.choice([0.0, 0.05, 0.2]))
        self._put(STAND, area)
        self._rows(area, step, along, lambda centre, _: crown(centre, radius), gaps, 2 * radius)

    def _vineyard(self, area: Polygon) -> None:
        """Plant vines: trellises are continuous, old vines stand apart."""
        rng = self.rng
        self._cover(area, self._any(SOILS), self._any(GRASSES if rng.random() < 0.4 else SOILS))
        radius, crown = self.metres(float(rng.uniform(0.3, 0.8))), self._crowns()
        along, step = radius * float(rng.choice([1.1, 1.1, 2.9])), self.metres(float(rng.uniform(1.8, 3.4)))
        self._put(STAND, area)
        self._rows(area, step, along, lambda centre, _: crown(centre, radius), float(rng.choice([0, 0.08])), 2 * radius)

    def _planted(self, area: BaseGeometry, spacing: float, radius: float, share: float) -> list[BaseGeometry]:
        """Scatter crowns of two kinds over an area, the larger first, and return their outlines."""
        rng, area = self.rng, area.intersection(self.frame)
        if area.is_empty:
            return []
        x0, y0, x1, y1 = area.bounds
        grid = np.stack(np.meshgrid(np.arange(x0, x1, spacing), np.arange(y0, y1, spacing)), axis=2).reshape(-1, 2)
        grid = rng.permutation(grid[rng.random(len(grid)) < share])
        grid = grid + rng.normal(0, 0.25 * spacing, grid.shape)
        shapely.prepare(area)
        grid = grid[shapely.contains_xy(area, grid[:, 0], grid[:, 1])]
        sizes = np.sort(radius * np.exp(rng.normal(0, 0.3, len(grid))))[::-1]
        kinds = self._crowns(), self._crowns()
        found = [kinds[int(rng.random() < 0.25)](centre, float(size)) for centre, size in zip(grid, sizes)]
        return self._put_all(SINGLE, found)

    def _groups(self, crowns: list[BaseGeometry]) -> None:
        for part in shapely.get_parts(shapely.union_all(crowns)):
            if sum(part.contains(crown.representative_point()) for crown in crowns[:400]) > 1:
                self._put(GROUP, part)

    def _grove(self, area: Polygon) -> None:
        rng = self.rng
        self._cover(area, self._any(GRASSES), self._any(SOILS))
        radius = max(3.0, self.metres(float(rng.uniform(1.5, 5.0))))
        centre = np.array(area.centroid.coords[0])
        inside = (
            area if rng.random() < 0.4 else area.intersection(self.blob(centre, 0.45 * float(np.sqrt(area.area)), 0.4))
        )
        if inside.is_empty:
            return
        crowns = self._planted(inside, 1.5 * radius, radius, float(rng.choice([0.97, 0.7])))
        if len(crowns) > 2:
            closed = shapely.union_all(crowns).buffer(radius).buffer(-radius)
            self._put(STAND, closed)
            self._groups(crowns)

    def _scattered(self, area: Polygon) -> None:
        """Trees and shrubs that stand apart or touch, on soil, sand or dry grass."""
        rng = self.rng
        ground = (SOILS, SANDS, GRASSES, ROCKS)[int(rng.integers(4))]
        self._cover(area, self._any(ground), self._any(SOILS if rng.random() < 0.6 else GRASSES))
        radius = max(3.0, self.metres(float(rng.uniform(0.5, 4.0))))
        crowns = self._planted(area, radius * float(rng.uniform(2.2, 6.0)), radius, float(rng.uniform(0.3, 0.8)))
        self._groups(crowns)

    def _hedge(self, area: Polygon) -> None:
        """Plant a part of the border."""
        ring, rng, crown = area.exterior, self.rng, self._crowns()
        radius = max(2.5, self.metres(float(rng.uniform(0.7, 2.5))))
        begin, length = float(rng.uniform(0, ring.length)), float(rng.uniform(0.15, 0.5)) * ring.length
        points = [ring.interpolate((begin + at) % ring.length) for at in np.arange(0, length, radius * 1.3)]
        places = [np.array(point.coords[0]) for point in points if self.frame.contains(point)]
        crowns = [crown(place + rng.normal(0, 0.2 * radius, 2), radius) for place in places]
        self._put_all(GROUP, shapely.get_parts(shapely.union_all([one for one in crowns if one is not None])))

    def _pond(self, area: Polygon) -> None:
        """Paint a basin in a parcel: full, half dry, or dry."""
        rng = self.rng
        self._cover(area, self._any(GRASSES), self._any(SOILS))
        centre = np.array(area.representative_point().coords[0])
        size = 0.5 * float(np.sqrt(area.area)) * float(rng.uniform(0.3, 0.9))
        basin = largest_polygon(self.blob(centre, size, float(rng.uniform(0.1, 0.5))).intersection(area))
        if basin is None:
            return
        self.blend(basin.buffer(self.metres(float(rng.uniform(0.5, 3)))), self._any(SOILS), 0.6)
        state = rng.random()
        if state < 0.65:
            self._cover(basin, self._any(BEDS), self._any(BEDS))
        if state < 0.4:
            water = largest_polygon(
                basin.intersection(self.blob(centre + rng.normal(0, 0.2 * size, 2), 0.65 * size, 0.4))
            )
        else:
            water = None if state < 0.65 else basin
        if water is not None:
            self._cover(water, self._any(WATERS), self._any(WATERS))
            self._put(SINGLE, water)
        if water is not basin:
            self._put(SINGLE if water is None else GROUP, basin)

    def _patch(self, area: Polygon) -> None:
        """Sand, rock or bare soil with a ragged border, and shrubs on it."""
        rng = self.rng
        self._cover(area, self._any(GRASSES if rng.random() < 0.5 else SOILS), self._any(GRASSES))
        for _ in range(int(rng.integers(1, 4))):
            x0, y0, x1, y1 = area.bounds
            shape = self.blob(
                rng.uniform([x0, y0], [x1, y1]), float(rng.uniform(0.12, 0.35)) * float(np.sqrt(area.area)), 0.5
            )
            part = largest_polygon(shape.intersection(area))
            if part is None:
                continue
            colours = (SANDS, ROCKS, SOILS)[int(rng.integers(3))]
            self._cover(part, self._any(colours), self._any(colours))
            self._put(STAND, part)
            if rng.random() < 0.4:
                radius = max(3.0, self.metres(float(rng.uniform(0.4, 1.5))))
                self._planted(part, 5 * radius, radius, 0.4)

    def _plain_field(self, area: Polygon) -> None:
        rng = self.rng
        self._cover(area, self._any((GRASSES, LEAVES, SOILS)[int(rng.integers(3))]), self._any(SOILS))
        angle, spacing = _direction(area), self.metres(float(rng.uniform(0.5, 6)))
        window = self.window(area)
        if window is not None and spacing >= 2.5:
            rows, columns, cover = window
            x, y = np.arange(columns.start, columns.stop)[None], np.arange(rows.start, rows.stop)[:, None]
            wave = np.sin((y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / spacing).astype(np.float32)
            self.image[rows, columns] *= 1 + float(rng.uniform(0.02, 0.15)) * cover * wave[..., None]
        self._put(STAND, area)

    def _houses(self, area: Polygon) -> None:
        """Build a settlement with roofs of a few kinds, apart or in terraces, and trees and cars between them."""
        rng, crown = self.rng, self._crowns()
        self._cover(area, self._any(SOILS if rng.random() < 0.5 else PAVED), self._any(GRASSES))
        kinds = ROOFS[rng.integers(len(ROOFS), size=int(rng.integers(1, 5)))]
        terraced, messy = rng.random() < 0.3, float(rng.choice([0.02, 0.12]))
        deep = max(10.0, self.metres(float(rng.uniform(5, 14))))
        wide = deep * float(rng.uniform(0.5, 0.9) if terraced else rng.uniform(1.0, 1.8))
        gap = 0.0 if terraced else max(2.0, self.metres(float(rng.choice([0.6, 3.0, 9.0]))))
        street = deep + max(6.0, self.metres(float(rng.uniform(2, 12))))

        def build(centre: NDArray[np.float64], angle: float) -> BaseGeometry | None:
            draw = rng.random()
            if draw < 0.05:
                return self._car(centre, angle)
            if draw < 0.15 and not terraced:
                return crown(centre, deep * float(rng.uniform(0.2, 0.4)))
            w, d = 0.5 * np.array([wide, deep]) * (1.0 if terraced else rng.uniform(1 - 3 * messy, 1.0, 2))
            turn = 0.0 if terraced else float(rng.normal(0, 0.7 * messy))
            return self._roof(shapely.box(-w, -d, w, d), centre, angle + turn, self._any(kinds), terraced)

        self._rows(area, street, wide + gap, build, 0.12, deep, grouped=terraced)

    def _roof(
        self, shape: BaseGeometry, centre: NDArray[np.float64], turn: float, colour: Colour, terraced: bool
    ) -> BaseGeometry:
        """Paint a roof of some form, flat, gabled, hipped or corrugated, with its shadow; return its outline."""
        rng = self.rng
        x0, y0, x1, y1 = shape.bounds
        wide, deep = x1 - x0, y1 - y0
        if not terraced and rng.random() < 0.35:
            # An L or a T.
            w, d = wide * float(rng.uniform(0.3, 0.5)), deep * float(rng.uniform(0.3, 0.9))
            at = x0 + float(rng.choice([0.0, (wide - w) / 2]))
            wing = shapely.box(at, y1 - 1, at + w, y1 + d)
            shape = shape.union(wing)

        def place(part: BaseGeometry) -> BaseGeometry:
            return _placed(part, centre, turn)

        outline = place(shape)
        offset = self.sun * self.metres(float(rng.uniform(2, 8))) * self.shadow_length
        moves = [shapely.affinity.translate(outline, *(offset * share)) for share in (0.25, 0.5, 0.75, 1.0)]
        self.shade(shapely.union_all(moves).difference(outline), 0.42)
        form = rng.random()
        self._cover(outline, colour)
        if form < 0.55:
            slope = float(rng.uniform(0.08, 0.3))
            facing = float(np.dot(self.sun, [-np.sin(turn), np.cos(turn)]))
            ridge = 0.5 * (y0 + y1)
            faces = [(shapely.box(x0, ridge, x1, y1), facing), (shapely.box(x0, y0, x1, ridge), -facing)]
            if form < 0.2:
                side = float(np.dot(self.sun, [np.cos(turn), np.sin(turn)]))
                half = min(0.5 * deep, 0.4 * wide)
                faces += [
                    (Polygon([(x1, y0), (x1 - half, ridge), (x1, y1)]), side),
                    (Polygon([(x0, y0), (x0 + half, ridge), (x0, y1)]), -side),
                ]
            for face, light in faces:
                self.blend(place(face.intersection(shape)), colour * (1 - slope * light), 0.85)
        elif form < 0.75:
            # A flat roof with a parapet and things on it.
            self.blend(outline.boundary.buffer(max(0.6, self.metres(0.25))).intersection(outline), colour * 1.15, 0.7)
            for _ in range(int(rng.integers(0, 5))):
                thing = shapely.box(0, 0, *(rng.uniform(0.08, 0.25, 2) * (wide, deep)))
                spot = rng.uniform([x0, y0], [x0 + 0.7 * wide, y0 + 0.7 * deep])
                self.blend(place(shapely.affinity.translate(thing, *spot).intersection(shape)), self._any(ROOFS), 0.7)
        else:
            for at in np.arange(x0, x1, max(2.0, self.metres(1.0))):
                sheet = shapely.box(at, y0, at + 1, y1).intersection(shape)
                self.blend(place(sheet), colour * float(rng.uniform(0.75, 1.1)), 0.6)
        return outline

    def _car(self, centre: NDArray[np.float64], turn: float) -> BaseGeometry:
        """Paint a car, with windows and shadow, and return its outline."""
        rng = self.rng
        long, wide = self.metres(float(rng.uniform(3.8, 5.2))), self.metres(float(rng.uniform(1.7, 2.0)))

        def place(part: BaseGeometry) -> BaseGeometry:
            return _placed(part, centre, turn)

        car = place(shapely.box(-long / 2, -wide / 2, long / 2, wide / 2).buffer(0.15 * wide).buffer(-0.15 * wide))
        self.shade(shapely.affinity.translate(car, *(self.sun * self.metres(1.0))), 0.5)
        colour = self._any(CARS)
        self.blend(car, colour)
        if wide > 6:
            for low, high in ((-0.28, -0.18), (0.12, 0.26)):
                self.blend(
                    place(shapely.box(low * long, -0.4 * wide, high * long, 0.4 * wide)), self._any(CARS[2:3]), 0.8
                )
        self._put(SINGLE, car)
        return car

    def _car_park(self, area: Polygon) -> None:
        """Park cars in rows, beside each other, on a paved area."""
        rng = self.rng
        self._cover(area, self._any(PAVED), self._any(PAVED))
        self._put(STAND, area)
        if self.metres(1.8) >= 3:

            def park(centre: NDArray[np.float64], angle: float) -> BaseGeometry:
                return self._car(centre, angle + 0.5 * np.pi)

            step, gaps = self.metres(float(rng.choice([8.0, 11.0]))), float(rng.uniform(0.05, 0.8))
            self._rows(area, step, self.metres(2.6), park, gaps, self.metres(4.0))


def _placed(part: BaseGeometry, centre: NDArray[np.float64], turn: float) -> BaseGeometry:
    return shapely.affinity.translate(shapely.affinity.rotate(part, turn, origin=(0, 0), use_radians=True), *centre)


def _direction(area: Polygon) -> float:
    """Return the direction of the longer side of an area, in radians."""
    ring = shapely.get_coordinates(area.minimum_rotated_rectangle)
    sides = np.diff(ring[:3], axis=0)
    longer = sides[int(np.argmax(np.hypot(sides[:, 0], sides[:, 1])))]
    return float(np.arctan2(longer[1], longer[0]))
