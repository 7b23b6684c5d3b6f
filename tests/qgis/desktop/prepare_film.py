"""Prepares `film.py` and `everything.py`: an image of fields, a coarse base map over it, and the fields to draw."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import rasterio
import rasterio.warp
import shapely
import shapely.geometry
from rasterio.transform import from_origin
from shapely.ops import polylabel

NAME, LONGITUDE, LATITUDE = "43.0441_-90.3643", -90.3643, 43.0441
CRS, PIXEL = "EPSG:26915", 1.0

BASE = {
    "B1": (
        [(78, 207), (485, 200), (485, 605), (230, 600), (78, 650)],
        [(485, 0), (1024, 0), (1024, 187), (485, 200)],
        [(485, 840), (1024, 833), (1024, 1000), (485, 995)],
    ),
    "B2": (
        [(0, 210), (78, 207), (78, 650), (10, 748), (0, 740)],
        [(78, 0), (485, 0), (485, 200), (78, 207)],
        [(485, 600), (1024, 625), (1024, 833), (485, 840)],
    ),
    "B3": (
        [(0, 0), (78, 0), (78, 207), (0, 210)],
        [(78, 650), (230, 600), (485, 605), (485, 995), (300, 985), (140, 880), (10, 748)],
        [(485, 200), (1024, 187), (1024, 625), (485, 600)],
    ),
    "B4": ([(0, 740), (10, 748), (140, 880), (300, 985), (485, 995), (1024, 1000), (1024, 1024), (0, 1024)],),
}
"""Ten polygons by class, as a coarse map has them, in pixels; neighbours have different classes."""

CLASSES = {
    "A1": ("Maize", "Maíz", "#e6c229"),
    "A2": ("Soya", "Soja", "#f17105"),
    "A3": ("Alfalfa", "Alfalfa", "#d11149"),
    "A4": ("Oats", "Avena", "#6610f2"),
    "A5": ("Wheat", "Trigo", "#1a8fe3"),
    "B1": ("Grassland", "Herbazal", "#f4f1a0"),
    "B2": ("Pasture", "Pastizal", "#a0e8ff"),
    "B3": ("Verges", "Lindes", "#f0c9e8"),
    "B4": ("Farms and roads", "Granjas y caminos", "#ffffff"),
}
"""The names in English and Spanish, and a colour."""

MIN_AREA = 4500
"""Of a field that is drawn, in square pixels."""


def prepare(folder: Path, data: Path) -> None:
    folder.mkdir(parents=True)
    for place, language in enumerate(("en", "es")):
        rows = [f"{code},{item[place]},{item[2]}" for code, item in CLASSES.items()]
        (folder / f"classes_{language}.csv").write_text("\n".join(["code,name,color", *rows]) + "\n", encoding="utf-8")
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", CRS, [LONGITUDE], [LATITUDE])
    left, top = round(x), round(y)
    with rasterio.open(data / "fields" / "val" / f"{NAME}.png") as image:
        pixels, profile = image.read(), {"width": image.width, "height": image.height, "count": image.count}
    transform = from_origin(left, top, PIXEL, PIXEL)
    options = {"driver": "GTiff", "dtype": "uint8", "tiled": True, "crs": CRS, "transform": transform}
    with rasterio.open(folder / "fields.tif", "w", **options, **profile) as dataset:
        dataset.write(pixels)

    def on_map(polygon: shapely.Polygon) -> shapely.Polygon:
        return shapely.transform(polygon, lambda places: places * (PIXEL, -PIXEL) + (left, top))

    base = [(code, on_map(shapely.Polygon(ring))) for code, rings in BASE.items() for ring in rings]
    collection = json.loads((data / "fields" / "val" / f"{NAME}.pixels.geojson").read_text())
    fields = [shapely.geometry.shape(feature["geometry"]) for feature in collection["features"]]
    valid = [on_map(field) for field in fields if field.is_valid]
    fields = [field for field in valid if field.area >= MIN_AREA * PIXEL**2]
    film = {
        "base": [{"class": code, "outline": polygon.wkt} for code, polygon in base],
        "fields": [_described(field, [polygon for _, polygon in base]) for field in fields],
        "all_fields": [field.wkt for field in valid],
    }
    (folder / "film.json").write_text(json.dumps(film))


def _described(field: shapely.Polygon, base: list[shapely.Polygon]) -> dict[str, object]:
    """A field, with the base polygon that holds most of it, and the share of it beyond that one."""
    shares = [field.intersection(polygon).area / field.area for polygon in base]
    inside = polylabel(field, 1.0)
    most = max(shares)
    return {
        "inside": [inside.x, inside.y],
        "bounds": field.bounds,
        "outline": field.wkt,
        "base": shares.index(most),
        "beyond": 1 - most,
    }


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
