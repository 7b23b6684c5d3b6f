"""A bright disc on a noisy ground, written in many ways, and the judge of the polygon that is found for it.

The judge does not use the code that it judges: it reads files with pyogrio, transforms with pyproj, and measures with
shapely.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pyproj
import rasterio
import rasterio.shutil
import shapely
from numpy.typing import NDArray
from rasterio.transform import Affine

WIDTH, HEIGHT, RADIUS = 500, 400, 60
CENTRE = (250.5, 200.5)
"""Middle of the disc, XY in pixels."""

UTM = "EPSG:25830"
X, Y, PIXEL = 500000.0, 4200000.0, 0.5
"""Upper left corner and pixel size of the scene, where a row does not say otherwise."""

LOCAL = 'LOCAL_CS["obra",UNIT["metre",1]]'
"""A CRS that is no place on Earth."""

MOST_OFFSET_PX, MOST_AREA_ERROR, LEAST_IOU = 1.0, 0.03, 0.95

Geometry = Any


@dataclass(frozen=True)
class Scene:
    """An image of the disc, and where it lies.

    Attributes
    ----------
    image : str
        As it is named on the command line.
    transform : Affine
        From pixels to the map.
    crs : str, optional
        None: the raster is in a CRS that is no place on Earth, and areas are those of the plane.
    """

    image: str
    transform: Affine
    crs: str | None = UTM
    centre: tuple[float, float] = CENTRE
    radius: float = RADIUS

    @property
    def click(self) -> tuple[float, float]:
        """Middle of the disc on the map."""
        x, y = self.transform @ self.centre
        return float(x), float(y)

    def point(self) -> str:
        """The option that clicks on the disc."""
        return "--point={!r},{!r}".format(*self.click)

    def box(self) -> str:
        """The option that draws a box around the disc."""
        return "--box={!r},{!r},{!r},{!r}".format(*self.on_map().buffer(0).bounds)

    def disc(self) -> Geometry:
        """The disc in pixels."""
        return shapely.Point(self.centre).buffer(self.radius, 64)

    def on_map(self, crs: Any = None) -> Geometry:
        """The disc on the map, in the CRS of the raster or another one."""
        geometry = shapely.transform(self.disc(), lambda xy: np.column_stack(self.transform @ xy.T))
        return geometry if crs is None else to_crs(geometry, self.crs, crs)

    def area_m2(self) -> float:
        """Area of the disc on the ellipsoid."""
        if self.crs is None:
            return float(self.on_map().area)
        crs = pyproj.CRS.from_user_input(self.crs)
        geodetic = crs.geodetic_crs
        assert geodetic is not None
        dense = self.on_map().exterior
        lonlat = to_crs(dense, crs, geodetic)
        radians = geodetic.axis_info[0].unit_conversion_factor
        lon, lat = np.degrees(shapely.get_coordinates(lonlat) * radians).T
        geod = crs.get_geod()
        assert geod is not None
        return abs(float(geod.polygon_area_perimeter(lon, lat)[0]))

    def in_pixels(self, geometry: Geometry, crs: Any) -> Geometry:
        """A geometry in a CRS, as pixels of this image."""
        if self.crs is not None and crs is not None:
            geometry = to_crs(geometry, crs, self.crs)
            raster = pyproj.CRS.from_user_input(self.crs)
            if raster.is_geographic or raster.to_epsg() == 3857:
                # Longitudes may differ by a turn.
                turn = 2 * math.pi / raster.axis_info[0].unit_conversion_factor
                turn *= 6378137 if raster.is_projected else 1
                x = self.click[0]
                geometry = shapely.transform(
                    geometry, lambda xy: np.column_stack((xy[:, 0] - turn * np.round((xy[:, 0] - x) / turn), xy[:, 1]))
                )
        inverse = ~self.transform
        pixels = shapely.transform(geometry, lambda xy: np.column_stack(inverse @ xy.T))
        # The parts of a polygon that is cut at the antimeridian touch.
        return shapely.union_all([part.buffer(0.01) for part in shapely.get_parts(pixels)])


def to_crs(geometry: Geometry, source: Any, target: Any) -> Geometry:
    transformer = pyproj.Transformer.from_crs(source, target, always_xy=True)
    return shapely.transform(geometry, lambda xy: np.column_stack(transformer.transform(*xy.T)))


def judge(
    path: Path | str,
    scene: Scene,
    crs: Any = None,
    layer: str | None = None,
    area: str | None = "area_m2",
    features: int = 1,
    feature: int = 0,
) -> dict[str, Any]:
    """Check the polygon in a file, and return its attributes.

    Parameters
    ----------
    path : Path or str
    scene : Scene
    crs : any, optional
        CRS that the file must have; by default that of the raster.
    layer : str, optional
    area : str, optional
        Field with the area; None does not check it.
    features : int
        Number of features that the file must have.
    feature : int
        Feature that is this scene's.
    """
    meta, _, found, columns = pyogrio.raw.read(path, layer=layer, force_2d=True)
    assert len(found) == features, f"{len(found)} features"
    wanted = scene.crs if crs is None else crs
    if wanted is not None:
        assert meta["crs"] is not None, "no CRS"
        assert same_crs(meta["crs"], wanted, scene), f"CRS {meta['crs']}"
    values = {str(name): column[feature] for name, column in zip(meta["fields"], columns)}
    geometry = shapely.from_wkb(found[feature])
    judge_polygon(geometry, scene, wanted, None if area is None else float(values[area]))
    return values


def same_crs(found: Any, wanted: Any, scene: Scene) -> bool:
    """Tell whether CRSs are the same, or give the same coordinates where their descriptions differ."""
    first, second = pyproj.CRS.from_user_input(found), pyproj.CRS.from_user_input(wanted)
    if first.equals(second, ignore_axis_order=True):
        return True
    if first.name != second.name and first.to_epsg() != second.to_epsg():
        return False
    disc = scene.on_map(second)
    limit = 1e-4 * np.ptp(shapely.get_coordinates(disc))
    return bool(shapely.hausdorff_distance(disc, to_crs(disc, first, second)) < limit)


def judge_polygon(geometry: Geometry, scene: Scene, crs: Any, area_m2: float | None) -> None:
    assert geometry.geom_type in ("Polygon", "MultiPolygon") and geometry.is_valid, geometry.wkt[:80]
    pixels, disc = scene.in_pixels(geometry, crs), scene.disc()
    assert pixels.area, "no area"
    iou = pixels.intersection(disc).area / pixels.union(disc).area
    offset = pixels.centroid.distance(disc.centroid)
    seen = f"IoU {iou:.3f}, {offset:.2f} px off, area_m2 {area_m2} of {scene.area_m2():.6g}"
    assert iou >= LEAST_IOU and offset <= MOST_OFFSET_PX, seen
    assert area_m2 is None or abs(area_m2 / scene.area_m2() - 1) <= MOST_AREA_ERROR, seen


def pixels_of(
    bands: int = 3,
    dtype: str = "uint8",
    dark: float = 60,
    bright: float = 200,
    width: int = WIDTH,
    height: int = HEIGHT,
    centres: Sequence[tuple[float, float]] = (CENTRE,),
) -> NDArray[Any]:
    """The image (bands, h, w): discs on a ground with noise."""
    v, u = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for x, y in centres:
        inside |= (u - x) ** 2 + (v - y) ** 2 < RADIUS**2
    noise = np.random.default_rng(0).normal(0, (bright - dark) / 23, (bands, height, width))
    values = np.where(inside, bright, dark) + noise
    return (np.clip(values, 1, 254) if dtype == "uint8" else values).astype(dtype)


def affine(x: float = X, y: float = Y, pixel: float = PIXEL) -> Affine:
    return Affine(pixel, 0.0, x, 0.0, -pixel, y)


def write(path: Path | str, pixels: NDArray[Any], **profile: Any) -> None:
    """Write pixels with rasterio."""
    count, height, width = pixels.shape
    profile = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": pixels.dtype, **profile}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path, "w", **profile) as dataset:
            dataset.write(pixels)


def tif(
    name: str = "a.tif",
    crs: str | None = UTM,
    x: float = X,
    y: float = Y,
    pixel: float = PIXEL,
    transform: Affine | None = None,
    pixels: NDArray[Any] | None = None,
    **profile: Any,
) -> Scene:
    """Write the scene to the working directory as a GeoTIFF; keywords go to rasterio."""
    transform = affine(x, y, pixel) if transform is None else transform
    write(name, pixels_of() if pixels is None else pixels, crs=crs, transform=transform, **profile)
    return Scene(name, transform, crs)


def converted(name: str, driver: str, scene: Scene | None = None, **options: Any) -> Scene:
    """Write the scene by a driver that makes copies, such as PNG; keywords are its creation options."""
    scene = tif("source of a.tif") if scene is None else scene
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rasterio.shutil.copy(scene.image, name, driver=driver, **options)
    if driver != "VRT":
        Path(scene.image).unlink()
    return replace(scene, image=name)


def vrt(name: str = "v.vrt", scene: Scene | None = None, edit: Callable[[str], str] = str) -> Scene:
    """Write a virtual raster of the scene, whose XML may be edited."""
    made = converted(name, "VRT", tif() if scene is None else scene)
    text = Path(name).read_text(encoding="utf-8")
    edited = edit(text)
    assert edit is str or edited != text
    Path(name).write_text(edited, encoding="utf-8")
    return made


def points(*at: tuple[float, float]) -> list[Geometry]:
    return [shapely.Point(xy) for xy in at]


def layer(
    name: str,
    geometries: Sequence[Geometry],
    crs: str | None = UTM,
    driver: str | None = None,
    kind: str = "Unknown",
    nulls: dict[str, Any] | None = None,
    fields: dict[str, Any] | None = None,
    **options: Any,
) -> str:
    """Write geometries and fields to a vector file in the working directory, and return its name."""
    wkb = [None if g is None else g if isinstance(g, bytes) else shapely.to_wkb(g) for g in geometries]
    fields = {key: np.asarray(value) for key, value in (fields or {}).items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pyogrio.raw.write(
            name, np.array(wkb, dtype=object), list(fields.values()), list(fields),
            [(nulls or {}).get(key) for key in fields], geometry_type=kind, crs=crs, driver=driver, **options,
        )  # fmt: skip
    return name


def files() -> set[str]:
    """All files below the working directory."""
    return {os.fsdecode(path) for path in Path().rglob("*")}
